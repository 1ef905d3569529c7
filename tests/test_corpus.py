"""Malformed files: each is read right, or refused in one line that names it, before a training."""

from __future__ import annotations

import collections
import json
import os

import numpy as np
import pytest
from PIL import Image

from lt_det.data.annotations.run_lengths import sums_of_texts
from lt_det.data.images.transforms import read_image
from tests.corpus.annotation_files import SIDE, cases, good
from tests.corpus.detection_files import detection_cases, good_detections
from tests.corpus.doors import DOORS, detections, outcome


@pytest.fixture
def path(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps(good()))
    return tmp_path / "corpus.json"


@pytest.mark.parametrize("door", DOORS)
def test_annotation_files(door, path, capsys):
    """Prints how many are handled well."""
    found = {case.name: outcome(DOORS[door], door, case, path) for case in cases()}
    _judge(found, door, capsys)


def test_detection_files(path, capsys):
    found = {c.name: outcome(detections, "detections", c, path) for c in detection_cases()}
    _judge(found, "detections", capsys)


@pytest.mark.parametrize("door", DOORS)
def test_the_good_file_passes_every_door(door, path):
    path.write_text(json.dumps(good()))
    DOORS[door](path)


def test_the_good_detections_pass(path):
    path.write_text(json.dumps(good_detections()))
    detections(path)


def _judge(found: dict[str, str], door: str, capsys) -> None:
    counts = collections.Counter(text.split(":")[0] for text in found.values())
    with capsys.disabled():
        print(f"\n{door}: {counts['clear']} clear, {len(found) - counts['clear']} not")
    assert {name: text for name, text in found.items() if text != "clear"} == {}
    assert len(found) >= 100


def _decoded(code: bytes) -> int:
    """Sum of runs, -1 if broken: COCO's format, one character after the other."""
    runs: list[int] = []
    value = shift = 0
    for byte in code:
        bits = byte - 48
        if not 0 <= bits < 64 or shift > 30:
            return -1
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return -1 if shift or not runs or min(runs) < 0 else sum(runs)


def test_run_lengths_are_summed_as_they_are_decoded():
    import pycocotools.mask as mask_utils

    rng = np.random.default_rng(0)
    codes, sizes = [], []
    for number in range(600):
        size = rng.integers(1, 60, 2)
        mask = rng.random(size) < rng.random() ** 3
        code = mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
        if number % 3 == 0:  # one character another
            place = int(rng.integers(len(code)))
            code = code[:place] + bytes([int(rng.integers(40, 120))]) + code[place + 1 :]
        if number % 7 == 0:
            code = code[:-1]
        codes.append(code)
        sizes.append(int(size.prod()))
    sums = sums_of_texts(codes)
    assert sums.tolist() == [_decoded(code) for code in codes]
    whole = [k for k in range(600) if k % 3 and k % 7]
    assert sums[whole].tolist() == [sizes[k] for k in whole]
    assert 20 < (sums < 0).sum() < 400


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["truncated", "bomb", "text", "broken png", "missing", "pipe"])
def test_images_that_cannot_be_read_are_named(kind, tmp_path, monkeypatch):
    """By the mapper of a detector, that of classification, and check-data."""
    from detectron2.config import get_cfg

    from lt_det.tasks.named_image_mapper import NamedImageMapper

    path = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "bomb":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIDE * SIDE // 4)
    elif kind == "text":
        path.write_text("no image")
    elif kind == "broken png":
        path.write_bytes(data[:40] + b"\0" * 40 + data[80:])
    else:
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
    record = {
        "file_name": str(path),
        "image_id": 7,
        "height": SIDE,
        "width": SIDE,
        "annotations": [],
    }
    readers = [read_image, NamedImageMapper(get_cfg(), is_train=True)]
    for reader in readers:
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            reader(dict(record))
        text = str(caught.value)
        assert "7" in text
        assert "photo.png" in text
        assert "\n" not in text
    content = good()
    content["images"][0]["file_name"] = "photo.png"
    (tmp_path / "corpus.json").write_text(json.dumps(content))
    (tmp_path / "images").symlink_to(tmp_path)
    for number in (2, 3):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{number}.png")
    for image in content["images"][1:]:
        image.update(width=16, height=16)
    with pytest.raises(ValueError, match="photo.png"):
        DOORS["check-data"](tmp_path / "corpus.json")
