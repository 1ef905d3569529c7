"""One scene: emoji painted on a photo, back to front, with the exact visible pixels of each.

While the picture is painted, a map of object numbers is painted with it. The mask of an object is
the set of pixels that carry its number in the end, so that occlusion is exact by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from demo.sprites import OPAQUE_FROM, SpriteBank
from demo.warp import jitter_colours, random_warp

BACKGROUND = -1
_PLACES_PER_SIZE = 12  # random positions tried before an object is made smaller
_SIZES_PER_OBJECT = 10
_SHRINK = 0.85
_ATTEMPTS_PER_SCENE = 20
_CENTRE_MARGIN = 0.1  # of the picture's side, in which no object has its centre


@dataclass(frozen=True)
class SceneConfig:
    """What scenes look like.

    Attributes:
        image_size: side of the square picture in pixels.
        min_size: smallest longer side of an object, as a fraction of the picture's side.
        max_size: largest one. Sizes are log-uniform between the two.
        min_visible: smallest visible fraction of an object's own pixels, in (0, 1).
    """

    image_size: int = 192
    min_size: float = 0.14
    max_size: float = 0.5
    min_visible: float = 0.35


@dataclass(frozen=True)
class Layer:
    """One painted object.

    Attributes:
        class_id: row of the sprite bank.
        style_id: column of the sprite bank.
        top: row of the picture where the patch begins; may be negative.
        left: column where it begins; may be negative.
        patch: ``(h, w, 4)`` uint8 RGBA.
    """

    class_id: int
    style_id: int
    top: int
    left: int
    patch: np.ndarray

    @property
    def opaque(self) -> np.ndarray:
        """``(h, w)`` bool, the pixels of the patch that belong to the object."""
        return self.patch[..., 3] >= OPAQUE_FROM


@dataclass(frozen=True)
class Scene:
    """A picture with the objects in it.

    Attributes:
        image: ``(S, S, 3)`` uint8 RGB.
        object_map: ``(S, S)`` int16, index into ``layers`` of the object that is visible at each
            pixel, -1 for the background.
        layers: the objects, from back to front.
    """

    image: np.ndarray
    object_map: np.ndarray
    layers: tuple[Layer, ...]

    def visible_fraction(self, index: int) -> float:
        """Return which part of an object's own pixels is visible, in [0, 1].

        Args:
            index: index into :attr:`layers`.
        """
        return float((self.object_map == index).sum() / self.layers[index].opaque.sum())


def compose_scene(
    class_ids: Sequence[int],
    *,
    bank: SpriteBank,
    photos: Sequence[np.ndarray],
    rng: np.random.Generator,
    config: SceneConfig,
) -> Scene:
    """Return a scene with one object per entry of ``class_ids``; no object is ever left out.

    Args:
        class_ids: class of each object in ``[0, K)``, from back to front.
        bank: sprites to paint.
        photos: ``(H, W, 3)`` uint8 arrays; one of them becomes the background.
        rng: the only source of randomness: equal generators give equal scenes.
        config: sizes and visibility.

    Raises:
        RuntimeError: if no arrangement with enough visible pixels was found.
    """
    for _ in range(_ATTEMPTS_PER_SCENE):
        layers, object_map = _arrange(class_ids, bank=bank, rng=rng, config=config)
        if layers is not None:
            image = _paint(layers, photos=photos, rng=rng, config=config)
            return Scene(image, object_map, layers)
    raise RuntimeError(
        f"no arrangement of {len(class_ids)} objects on {config.image_size} pixels leaves every "
        f"one {config.min_visible:.0%} visible; lower min_visible, max_size or the objects a scene"
    )


def scene_generator(seed: int, *, split_id: int, index: int) -> np.random.Generator:
    """Return the random generator of scene ``index``: a function of its three arguments alone.

    Args:
        seed: seed of the data set.
        split_id: number of the split.
        index: number of the scene in the split.
    """
    return np.random.default_rng(np.random.SeedSequence((seed, split_id, index)))


def _arrange(
    class_ids: Sequence[int], *, bank: SpriteBank, rng: np.random.Generator, config: SceneConfig
) -> tuple[tuple[Layer, ...] | None, np.ndarray]:
    side = config.image_size
    object_map = np.full((side, side), BACKGROUND, dtype=np.int16)
    layers: list[Layer] = []
    own_areas: list[int] = []
    for class_id in class_ids:
        style_id = int(rng.integers(len(bank.styles)))
        sprite = jitter_colours(bank.pixels[class_id, style_id], rng=rng)
        size = side * np.exp(rng.uniform(np.log(config.min_size), np.log(config.max_size)))
        layer, object_map_with_it = None, object_map
        for _ in range(_SIZES_PER_OBJECT):
            patch = random_warp(sprite, size=float(size), rng=rng)
            for _ in range(_PLACES_PER_SIZE):
                # The rest of the object may be cut off by the border of the picture.
                row, column = rng.uniform(_CENTRE_MARGIN * side, (1 - _CENTRE_MARGIN) * side, 2)
                top, left = int(row - patch.shape[0] / 2), int(column - patch.shape[1] / 2)
                candidate = Layer(class_id, style_id, top, left, patch)
                areas = np.array([*own_areas, candidate.opaque.sum()])
                object_map_with_it = _put(object_map, candidate, len(layers))
                seen = np.bincount(object_map_with_it.ravel() + 1, minlength=len(areas) + 1)[1:]
                if (seen >= config.min_visible * areas).all() and areas[-1] > 0:
                    layer = candidate
                    break
            if layer is not None:
                break
            size *= _SHRINK
        if layer is None:
            return None, object_map
        layers.append(layer)
        own_areas.append(int(layer.opaque.sum()))
        object_map = object_map_with_it
    return tuple(layers), object_map


def _put(object_map: np.ndarray, layer: Layer, number: int) -> np.ndarray:
    """Return a copy of the map with one more object on top."""
    on_picture, on_patch = overlap(layer, side=object_map.shape[0])
    result = object_map.copy()
    result[on_picture][layer.opaque[on_patch]] = number
    return result


def overlap(layer: Layer, *, side: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where a layer lies on the picture and which part of its patch that is.

    Args:
        layer: an object.
        side: side of the picture in pixels.
    """
    height, width = layer.patch.shape[:2]
    top, left = max(layer.top, 0), max(layer.left, 0)
    bottom, right = min(layer.top + height, side), min(layer.left + width, side)
    return (slice(top, max(bottom, top)), slice(left, max(right, left))), (
        slice(top - layer.top, max(bottom, top) - layer.top),
        slice(left - layer.left, max(right, left) - layer.left),
    )


def _paint(
    layers: Sequence[Layer],
    *,
    photos: Sequence[np.ndarray],
    rng: np.random.Generator,
    config: SceneConfig,
) -> np.ndarray:
    side = config.image_size
    canvas = _background(photos[int(rng.integers(len(photos)))], side=side, rng=rng)
    shadow_offset = rng.integers(1, 2 + side // 48, size=2)
    shadow_strength = rng.uniform(0.1, 0.4)
    for layer in layers:
        opacity = np.zeros((side, side), dtype=np.float32)
        on_picture, on_patch = overlap(layer, side=side)
        patch = layer.patch[on_patch].astype(np.float32)
        opacity[on_picture] = patch[..., 3] / 255
        soft = Image.fromarray((opacity * 255).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(side / 96)
        )
        shadow = np.roll(np.asarray(soft, dtype=np.float32) / 255, shadow_offset, axis=(0, 1))
        # Rolling brings the far border in again; it holds no shadow.
        shadow[: shadow_offset[0]] = 0
        shadow[:, : shadow_offset[1]] = 0
        canvas *= 1 - shadow_strength * shadow[..., None]
        alpha = patch[..., 3:] / 255
        canvas[on_picture] = alpha * patch[..., :3] + (1 - alpha) * canvas[on_picture]
    return _finish(canvas, rng=rng)


def _background(photo: np.ndarray, *, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random crop of a photo, ``(S, S, 3)`` float32 in [0, 255]."""
    shorter = min(photo.shape[:2])
    crop = int(shorter * rng.uniform(0.35, 1.0))
    row = int(rng.integers(photo.shape[0] - crop + 1))
    column = int(rng.integers(photo.shape[1] - crop + 1))
    picture = Image.fromarray(photo[row : row + crop, column : column + crop])
    picture = picture.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    pixels = np.asarray(picture, dtype=np.float32)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    # A gain per channel: grey textures get a tint, and few photos give many backgrounds.
    return np.clip(pixels * rng.uniform(0.7, 1.2, size=3).astype(np.float32), 0, 255)


def _finish(canvas: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Return the picture after uneven light, blur and sensor noise, as uint8."""
    side = canvas.shape[0]
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    slope_row, slope_column = rng.uniform(-0.15, 0.15, size=2)
    light = 1 + slope_row * ramp[:, None] + slope_column * ramp[None, :]
    image = Image.fromarray(np.clip(canvas * light[..., None], 0, 255).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.0, 0.6))))
    noise = rng.normal(0, rng.uniform(0, 5), size=(side, side, 3)).astype(np.float32)
    return np.clip(np.asarray(image, dtype=np.float32) + noise, 0, 255).astype(np.uint8)
