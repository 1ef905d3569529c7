"""Images in rows, upright."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lt_det.report.image_sheet import SheetImage, save_image_sheet, shortened, small_image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(tmp_path, orientation):
    pixels = np.zeros((40, 80, 3), dtype=np.uint8)
    pixels[:, :40] = 255  # the left half, before turning
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    image, size = small_image(tmp_path / "a.png", longest=20)
    is_turned = orientation > 4
    assert size == ((40, 80) if is_turned else (80, 40))
    assert image.shape == ((20, 10, 3) if is_turned else (10, 20, 3))
    top_left_is_white = orientation in (1, 4, 5, 6)  # of EXIF's table of orientations
    assert (image[1, 1].mean() > 128) == top_left_is_white


@pytest.mark.parametrize(("number", "size"), [(1, (1, 1)), (8, (8, 1)), (9, (8, 2)), (16, (8, 2))])
def test_a_row_has_eight_images(tmp_path, number, size):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    save_image_sheet([SheetImage(tmp_path / "a.png", "x")] * number, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (180 * size[0], 200 * size[1])


def test_long_titles_lose_their_middle():
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 10) == "abcde…hijk"
    assert len(shortened("x" * 50, 9)) == 9
