"""Random geometry and colours of one sprite."""

from __future__ import annotations

import numpy as np
from PIL import Image

_MAX_ROTATION_DEG = 25.0
_MAX_SHEAR = 0.2
_MAX_ASPECT = 1.25
_MIN_SIDE = 8.0  # pixels; below, nobody could tell what it is


def random_warp(sprite: np.ndarray, *, size: float, rng: np.random.Generator) -> np.ndarray:
    """Return the sprite after a random flip, aspect, rotation and shear.

    Args:
        sprite: ``(H, H, 4)`` uint8 RGBA.
        size: side of the sprite's square before rotation, in pixels; at least 8 are used.
        rng: source of randomness.

    Returns:
        ``(h, w, 4)`` uint8 RGBA, as small as the warped square allows.
    """
    size = max(size, _MIN_SIDE)
    aspect = np.exp(rng.uniform(-np.log(_MAX_ASPECT), np.log(_MAX_ASPECT)) / 2)
    width, height = max(round(size * aspect), 2), max(round(size / aspect), 2)
    # Shrink first, with anti-aliasing: the affine transform below samples single points.
    picture = Image.fromarray(sprite).resize((width, height), Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    angle = np.deg2rad(rng.uniform(-_MAX_ROTATION_DEG, _MAX_ROTATION_DEG))
    shear = rng.uniform(-_MAX_SHEAR, _MAX_SHEAR)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    forward = rotation @ np.array([[1.0, shear], [0.0, 1.0]])
    corners = forward @ (np.array([[-1, 1, 1, -1], [-1, -1, 1, 1]]) * [[width / 2], [height / 2]])
    out_width, out_height = (int(np.ceil(2 * v)) + 2 for v in np.abs(corners).max(axis=1))
    # Pillow wants the map from output to input pixels.
    inverse = np.linalg.inv(forward)
    offset = np.array([width / 2, height / 2]) - inverse @ [out_width / 2, out_height / 2]
    coefficients = (*inverse[0], offset[0], *inverse[1], offset[1])
    warped = picture.transform(
        (out_width, out_height),
        Image.Transform.AFFINE,
        tuple(float(c) for c in coefficients),
        resample=Image.Resampling.BICUBIC,
    )
    return np.asarray(warped)


def jitter_colours(sprite: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Return the sprite with a small random change of hue, saturation and brightness.

    Args:
        sprite: ``(H, W, 4)`` uint8 RGBA. The opacity is not changed.
        rng: source of randomness.
    """
    picture = Image.fromarray(sprite)
    hsv = np.asarray(picture.convert("RGB").convert("HSV"), dtype=np.float32)
    # Hue is a circle of 256 steps: at most 12 degrees, so that an orange stays no lemon.
    hue = (hsv[..., 0] + rng.uniform(-8, 8)) % 256
    saturation = np.clip(hsv[..., 1] * rng.uniform(0.7, 1.15), 0, 255)
    value = np.clip(hsv[..., 2] * rng.uniform(0.7, 1.15), 0, 255)
    changed = np.stack([hue, saturation, value], axis=-1).astype(np.uint8)
    rgb = np.asarray(Image.fromarray(changed, mode="HSV").convert("RGB"))
    return np.concatenate([rgb, sprite[..., 3:]], axis=-1)
