"""First look at images before a run: what would stop it is named at once."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from lt_det.data.images.first_look import check_image_files


@pytest.fixture
def record(tmp_path) -> dict:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(path)
    return {"file_name": str(path), "width": 40, "height": 30}


def test_good_records_and_addresses_pass(record):
    check_image_files([record, {"file_name": record["file_name"]}], what="x")
    check_image_files([{"file_name": "s3://b/a.jpg"}, {"image": None}], what="x")


def test_what_would_stop_a_run_is_named(record, tmp_path):
    empty = tmp_path / "empty.jpg"
    empty.touch()
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(turned, exif=exif)
    gone = {"file_name": str(tmp_path / "gone.jpg")}
    wrong = [gone, {"file_name": str(empty)}, {"file_name": str(text)}]
    wrong += [{**record, "width": 41}, {**record, "file_name": str(turned)}]
    with pytest.raises(ValueError, match="cannot be used") as caught:
        check_image_files([record, *wrong], what="DATASETS.TRAIN 'x'")
    said = str(caught.value)
    assert said.startswith("DATASETS.TRAIN 'x': 5 of 6 images that were looked at cannot be used")
    assert "gone.jpg: there is no such file" in said
    assert "empty.jpg: no bytes" in said
    assert "text.jpg: " in said
    assert "41 x 30 in the json, 40 x 30 in the file;" in said
    assert "40 x 30 in the json, 30 x 40 in the file (its EXIF orientation turns it)" in said
    assert said.count("\n") == 0


def test_cut_images_are_named_and_much_data_is_looked_at_in_part(record, monkeypatch, caplog):
    caplog.set_level("INFO")
    with open(record["file_name"], "r+b") as file:
        file.truncate(os.path.getsize(record["file_name"]) - 10)
    with pytest.raises(ValueError, match=r"x: 1 of 1 images .*a\.jpg: image file is trunc"):
        check_image_files([record], what="x")
    assert "looked at before" not in caplog.text
    monkeypatch.setattr("lt_det.data.images.first_look._LOOKED_AT", 2)
    monkeypatch.setattr("lt_det.data.images.first_look._DECODED", 1)
    with pytest.raises(ValueError, match="x: 1 of 2 images"):
        check_image_files([record] * 5, what="x")
    assert "x: 2 of 5 images were looked at before the start" in caplog.text
    assert "x: 1 images do not end as their format says and were not decoded" in caplog.text
