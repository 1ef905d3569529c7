"""Images to classify: each kind of trouble is found, beside all others."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lt_det.data.inspection.labelled_images import inspect_images


def picture(path: Path, value: int, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((20, 24, 3), value, np.uint8)
    pixels[0, 0] = [value // 2, 1, 2]
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    value = 0
    for split, counts in {"train": (3, 2), "val": (1, 1)}.items():
        for name, count in zip(("cat", "dog"), counts):
            for i in range(count):
                value += 20
                picture(tmp_path / split / name / f"{i}.png", value)
    return tmp_path


def kinds(folder: Path, harm: str = "", **options) -> set[str]:
    found = inspect_images([str(folder)], **options).findings
    return {one.kind for one in found if harm in ("", one.harm)}


def test_nothing_is_wrong_with_a_good_folder(folder):
    found = inspect_images([str(folder)])
    assert found.findings == []
    assert found.outlook is not None
    assert found.outlook.train.image_counts == (3, 2)
    assert found.outlook.val == (1, 1)
    low, high, ratio = found.outlook.offsets()
    assert ratio == pytest.approx(1.5)
    assert (low, high) == pytest.approx((-np.log(1.5) / 2, np.log(1.5) / 2))


def cut(path):
    path.write_bytes(path.read_bytes()[:60])


SPOIL = {
    "broken-image": lambda f: cut(f / "train/cat/0.png"),
    "empty-class-folder": lambda f: (f / "train/empty").mkdir(),
    "image-without-class": lambda f: picture(f / "train/loose.png", 9),
    "no-image-name": lambda f: (f / "train/cat/notes.txt").write_text("x"),
    "image-cmyk": lambda f: picture(f / "train/cat/x.jpg", 9, "CMYK"),
    "image-alpha": lambda f: picture(f / "train/cat/x.png", 9, "RGBA"),
    "image-depth": lambda f: picture(f / "train/cat/x.tif", 9, "F"),
    "image-tiny": lambda f: Image.new("RGB", (9, 40)).save(f / "train/cat/x.png"),
    "similar-names": lambda f: picture(f / "train/Cat/x.png", 9),
    "class-of-one-image": lambda f: picture(f / "train/cow/x.png", 9),
    "class-without-val-image": lambda f: shutil.rmtree(f / "val/dog"),
    "class-not-trained": lambda f: picture(f / "val/cow/x.png", 9),
    "one-class": lambda f: [shutil.rmtree(f / s / "dog") for s in ("train", "val")],
    "image-in-both": lambda f: shutil.copy(f / "train/cat/0.png", f / "val/cat/copy.png"),
    "image-of-two-classes": lambda f: shutil.copy(f / "train/cat/0.png", f / "train/dog/9.png"),
    "same-image-twice": lambda f: shutil.copy(f / "train/cat/0.png", f / "train/cat/9.png"),
    "no-images": lambda f: [p.unlink() for p in (f / "train").rglob("*.png")],
}
ERRORS = {"broken-image", "empty-class-folder", "image-depth", "class-not-trained", "one-class"}


@pytest.mark.parametrize("kind", SPOIL)
def test_each_trouble_is_found(folder, kind):
    SPOIL[kind](folder)
    assert kind in kinds(folder)
    assert (kind in kinds(folder, "error")) == (kind in ERRORS | {"no-images"})


def test_a_folder_of_splits_is_not_taken_for_classes(folder):
    (folder / "train").rename(folder / "test")
    (folder / "testing").mkdir()
    picture(folder / "testing/x.png", 7)
    assert "splits-as-classes" in kinds(folder, "error")


def rows(folder: Path, *lines: str, header: str = "path,label,split") -> Path:
    path = folder / "set.csv"
    path.write_text("\n".join([header, *lines]), encoding="utf-8-sig")
    return path


GOOD = [
    "train/cat/0.png,cat,train", "train/cat/1.png,cat,train", "train/dog/0.png,dog,train",
    "train/dog/1.png,dog,train", "val/cat/0.png,cat,val", "val/dog/0.png,dog,val",
]  # fmt: skip


def test_a_good_csv(folder):
    found = inspect_images([str(rows(folder, *GOOD))])
    assert found.findings == []
    assert found.outlook is not None
    assert (found.outlook.train.image_counts, found.outlook.val) == ((2, 2), (1, 1))


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("empty-cell", "train/cat/2.png,,train"),
        ("missing-image", "train\\cat\\2.png,cat,train"),
        ("same-file-twice", "train/cat/0.png,cat,train"),
        ("image-of-two-classes", "train/cat/0.png,dog,train"),
        ("image-in-both", "train/cat/0.png,cat,val"),
        ("class-without-image", "train/cat/2.png,cow,val"),
    ],
)
def test_each_trouble_of_a_csv_is_found(folder, kind, line):
    assert kind in kinds(rows(folder, *GOOD, line))


def test_foreign_csv_files_are_findings(folder):
    assert kinds(rows(folder, "a,b", header="file,class")) == {"no-csv"}
    assert kinds(folder / "nowhere.csv") == {"no-csv"}
    assert "splits-unused" in kinds(rows(folder, "train/cat/0.png,cat,tr", "train/dog/0.png,dog,x"))
