"""Draw a sheet of images, each with a line above it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lt_det.report.figure_file import save_figure
from lt_det.shown_text import for_plot
from lt_det.storage.regular_file import check_regular

# Longest line above an image, in characters.
_LONGEST_TITLE = 28


@dataclass(frozen=True)
class SheetImage:
    """An image file and the line above it."""

    path: str
    title: str


def save_image_sheet(
    images: Sequence[SheetImage], path: str | os.PathLike[str], *, across: int = 8
) -> None:
    """Draw images in rows.

    Args:
        images: at least one.
        path: picture file, written whole or not at all.
        across: images of a row.

    Raises:
        OSError: if an image cannot be read.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(across, len(images))
    rows = -(-len(images) // across)
    figure = Figure(figsize=(1.8 * across, 2.0 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, across, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, image in zip(grid, images):
        axes.imshow(small_image(image.path, longest=256)[0])
        axes.set_title(for_plot(shortened(image.title, _LONGEST_TITLE)), fontsize=7)
    save_figure(figure, path, dpi=100)


def small_image(
    path: str | os.PathLike[str], *, longest: int
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return an image, upright and made smaller, and its own width and height.

    Args:
        path: image file.
        longest: its longer side afterwards, at most, in pixels.

    Returns:
        ``(h, w, 3)`` uint8 RGB, and (width, height) of the upright file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no regular file.
    """
    from PIL import Image, ImageOps

    check_regular(path)
    with Image.open(path) as image:
        size = image.size
        image.draft("RGB", (longest, longest))  # JPEGs are read small at once
        upright = ImageOps.exif_transpose(image)
        if image.getexif().get(274) in (5, 6, 7, 8):  # turned by a quarter
            size = size[::-1]
        upright.thumbnail((longest, longest))
        return np.asarray(upright.convert("RGB")), size


def shortened(text: str, length: int) -> str:
    """Return the text, its middle left out where it is longer than ``length`` characters."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"
