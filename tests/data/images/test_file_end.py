"""Cut image files are found by their end; whole ones with odd ends are decoded, not refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lt_det.data.images.file_end import may_be_cut
from lt_det.data.inspection.image_files import read_images

PIXELS = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 40, 3), dtype=np.uint8))
FORMATS = {
    "jpeg": {"format": "JPEG"},
    "progressive": {"format": "JPEG", "progressive": True},
    "png": {"format": "PNG"},
    "gif": {"format": "GIF"},
    "bmp": {"format": "BMP"},
    "webp": {"format": "WEBP"},
    "tiff": {"format": "TIFF"},
    "tiff-lzw": {"format": "TIFF", "compression": "tiff_lzw"},
    "mpo": {"format": "MPO", "save_all": True, "append_images": [PIXELS.rotate(90)]},
}


def written(**options) -> bytes:
    stream = io.BytesIO()
    PIXELS.save(stream, **options)
    return stream.getvalue()


def doubted(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    with Image.open(path) as image:
        return may_be_cut(path, image)


@pytest.mark.parametrize("kind", FORMATS)
def test_whole_files_are_not_decoded(kind, tmp_path):
    data = written(**FORMATS[kind])
    for more in (b"", b"\0" * 100):
        assert not doubted(tmp_path / "a", data + more)
    assert read_images([str(tmp_path / "a")], quick=True)[0].problem == ""


@pytest.mark.parametrize("kind", sorted(set(FORMATS) - {"mpo"}))
def test_cut_files_are_found_and_only_those_that_cannot_be_decoded(kind, tmp_path):
    data, path = written(**FORMATS[kind]), tmp_path / "a"
    found = set()
    for length in (len(data) // 2, len(data) * 9 // 10, len(data) - 1):
        path.write_bytes(data[:length])
        # No less than what decodes all, and no more.
        quick, whole = (read_images([str(path)], quick=one)[0].problem for one in (True, False))
        assert quick == whole
        found.add(bool(quick))
    assert True in found


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "mpo"])
def test_much_behind_the_end_is_no_cut(kind, tmp_path):
    path = tmp_path / "a"
    assert doubted(path, written(**FORMATS[kind]) + bytes(range(97, 123)) * 4000)
    fact = read_images([str(path)], quick=True)[0]
    assert (fact.problem, fact.is_doubtful) == ("", False)


def test_the_end_of_a_preview_is_none_of_the_image(tmp_path):
    exif = Image.Exif()
    exif[270] = "a"
    preview = exif.tobytes() + written(format="JPEG")
    data = written(format="JPEG", exif=preview)
    assert data.count(b"\xff\xd9") == 2
    assert not doubted(tmp_path / "a", data)
    assert doubted(tmp_path / "a", data[:-1000])
    assert "truncated" in read_images([str(tmp_path / "a")], quick=True)[0].problem


def test_so_many_are_decoded_and_not_more(tmp_path):
    paths = [tmp_path / f"{row}.jpg" for row in range(10)]
    for path in paths:
        path.write_bytes(written(format="JPEG")[:-800])
    facts = read_images(list(map(str, paths)), quick=True, most_decoded=4)
    assert [bool(fact.problem) for fact in facts] == [row % 3 == 0 for row in range(10)]
    assert [fact.is_doubtful for fact in facts] == [row % 3 != 0 for row in range(10)]
