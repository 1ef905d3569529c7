"""Find images with more than 8 bits a channel by their headers; they load as white or black.

PIL, and so Detectron2, cuts grey values at 255 in place of scaling them. (Images to classify are
scaled, see :func:`lt_det.data.images.transforms.read_image`.)
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from lt_det.data.annotations.naming import NUM_NAMED

# JPEG has 8 bits, so most data sets cost nothing.
_ALWAYS_8_BITS = (".jpg", ".jpeg")
# Deep images whose pixels are looked at: reading all of a data set would take too long.
_DECODED = 50


def deep_images(file_names: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return the files whose grey values do not fit into 8 bits; unreadable ones are left out.

    Args:
        file_names: paths; the headers of those that are no JPEG are read.
    """
    asked = [
        f
        for f in dict.fromkeys(os.fspath(name) for name in file_names)
        # A named pipe would be waited for.
        if not f.lower().endswith(_ALWAYS_8_BITS) and os.path.isfile(f)
    ]
    if not asked:
        return []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        is_deep = list(
            tqdm(
                pool.map(_is_deep, asked),
                total=len(asked),
                desc="Reading image headers",
                unit="image",
                delay=2,
                leave=False,
            )
        )
    deep = [file_name for file_name, found in zip(asked, is_deep) if found]
    # What was saved with 16 bits may use 8 of them only: that is read right.
    clipped = [_is_clipped(file_name) for file_name in deep[:_DECODED]]
    return deep if any(clipped) else []


def deep_images_text(deep: list[str], *, name: str) -> str:
    """Return what to say of :func:`deep_images`."""
    return (
        f"data set {name!r}: {len(deep)} images have grey values of more than 8 bits, first "
        f"{deep[:NUM_NAMED]}; Detectron2 cuts them at 255, so that most of the picture is white. "
        "Save them with 8 bits, e.g. (numpy.asarray(image) / 256).astype('uint8') for 16, or give "
        "a mapper of your own to build_train_loader and build_test_loader"
    )


def _is_deep(file_name: str) -> bool:
    from PIL import Image

    try:
        with Image.open(file_name) as image:
            return image.mode == "F" or image.mode.startswith("I")
    except unreadable():  # missing or no image: found, and named, by whoever reads it
        return False


def _is_clipped(file_name: str) -> bool:
    from PIL import Image

    try:
        with Image.open(file_name) as image:
            if image.mode == "F":
                return True
            values = np.asarray(image)
            return bool(values.min() < 0 or values.max() > 255)
    except unreadable():
        return False


def unreadable() -> tuple[type[Exception], ...]:
    """Return what PIL raises for files that are no image, broken, or absurdly large."""
    from PIL import Image

    return (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
