"""Images that PIL would cut at 255."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lt_det.data.images.depth import deep_images, deep_images_text


def save(path, array, mode=None):
    Image.fromarray(array, mode).save(path)
    return str(path)


@pytest.fixture
def files(tmp_path):
    ramp = np.arange(64 * 64).reshape(64, 64)
    return {
        "grey": save(tmp_path / "grey.png", (ramp % 256).astype(np.uint8)),
        "rgb": save(tmp_path / "rgb.png", np.zeros((4, 4, 3), np.uint8)),
        "alpha": save(tmp_path / "alpha.png", np.zeros((4, 4, 4), np.uint8)),
        "jpeg": save(tmp_path / "a.JPG", np.zeros((4, 4, 3), np.uint8)),
        "bit": save(tmp_path / "bit.png", ramp % 2 == 0),
        "palette": str(tmp_path / "palette.png"),
        "deep": save(tmp_path / "deep.png", (ramp * 16).astype(np.uint16)),
        "tiff": save(tmp_path / "deep.tif", (ramp * 16).astype(np.uint16)),
        "float": save(tmp_path / "float.tiff", (ramp / 4096).astype(np.float32)),
        "shallow": save(tmp_path / "shallow.png", (ramp % 256).astype(np.uint16)),
        "missing": str(tmp_path / "gone.png"),
        "broken": str(tmp_path / "broken.png"),
    }


def test_deep_ones_are_found_and_all_others_pass(files):
    Image.new("P", (4, 4)).save(files["palette"])
    with open(files["broken"], "wb") as file:
        file.write(b"\x89PNG\r\n")
    deep = [files[k] for k in ("deep", "tiff", "float")]
    for one in deep:
        assert deep_images([one]) == deep_images([Path(one)]) == [one]
    assert deep_images(f for f in files.values() if f not in deep) == []
    found = deep_images(files.values())
    assert set(deep) <= set(found)
    text = deep_images_text(deep, name="x")
    assert "data set 'x': 3 images" in text
    assert files["deep"] in text


def test_what_is_found_is_what_detectron2_reads_wrong(files):
    utils = pytest.importorskip("detectron2.data.detection_utils")
    for name in ("deep", "tiff", "shallow", "grey"):
        with Image.open(files[name]) as image:
            values = np.asarray(image)
        read = utils.read_image(files[name], format="RGB")[..., 0]
        assert bool(deep_images([files[name]])) == (not np.array_equal(read, values))
