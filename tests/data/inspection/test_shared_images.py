"""Images in training and evaluation, and sources in each other's place: by place and content."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from lt_det.data.inspection.data_sets import inspect_data_sets
from lt_det.data.inspection.labelled_images import inspect_images
from tests.data.inspection.test_data_sets import good
from tests.data.inspection.test_labelled_images import picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, first in (("train", 10), ("val", 60)):
        content = good(4)
        for row, image in enumerate(content["images"]):
            image.update(file_name=f"{split}{row}.png", width=24, height=20)
            picture(tmp_path / "images" / image["file_name"], first + 10 * row)
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    return tmp_path


def rename(folder: Path, split: str, names: dict[int, str]) -> None:
    content = json.loads((folder / f"{split}.json").read_text())
    for row, name in names.items():
        content["images"][row]["file_name"] = name
    (folder / f"{split}.json").write_text(json.dumps(content))


def found(folder: Path, *, train=("train.json",), val=("val.json",), **options) -> dict:
    roots = options.pop("roots", ["images"])
    inspection = inspect_data_sets(
        [folder / one for one in train],
        [folder / one for one in val],
        image_roots=[folder / one for one in roots],
        **options,
    )
    kinds = ("image-", "copy-", "same-", "splits-")
    return {one.kind: one for one in inspection.findings if one.kind.startswith(kinds)}


def test_nothing_is_shared_by_good_splits(folder):
    assert found(folder) == {}


LEAKS = {
    "dot": lambda f: rename(f, "val", {1: "./train1.png", 2: "../images/train2.png"}),
    "absolute": lambda f: rename(
        f, "val", {1: str(f / "images/train1.png"), 2: str(f / "images//train2.png")}
    ),
    "links": lambda f: [
        os.replace(f / f"images/val{i}.png", f / f"images/old{i}.png")
        or os.symlink(f"train{i}.png", f / f"images/val{i}.png")
        for i in (1, 2)
    ],
}


@pytest.mark.parametrize("leak", LEAKS)
def test_one_place_under_two_names_is_found_without_a_look_at_the_files(folder, leak):
    LEAKS[leak](folder)
    (one,) = found(folder, quick=True).values()
    assert (one.kind, one.harm, one.count, one.total) == ("image-in-both", "warning", 2, 4)
    assert one.file.endswith("val.json")
    assert "train1.png" in one.first[0]
    assert "learned by heart" in one.advice


def test_a_linked_folder_is_the_same_place(folder):
    os.symlink("images", folder / "photos")
    rename(folder, "val", {0: "train0.png"})
    one = found(folder, roots=["images", "photos"], quick=True)["image-in-both"]
    assert one.count == 1


def test_copies_under_another_name_are_found_where_images_are_read(folder):
    shutil.copy(folder / "images/train0.png", folder / "images/val3.png")
    assert found(folder, quick=True) == {}
    (one,) = found(folder).values()
    assert (one.kind, one.harm, one.count) == ("copy-in-both", "warning", 1)
    assert one.first[0].endswith("train0.png")
    assert "val3.png = " in one.first[0]


def test_files_of_equal_length_and_end_are_no_copies(folder):
    path = folder / "images/val3.png"
    end = (folder / "images/train0.png").read_bytes()
    for name, first in (("a", b"a"), ("b", b"b")):
        (folder / f"images/{name}.png").write_bytes(first + b"0" * 5000 + end)
    rename(folder, "train", {0: "a.png"})
    rename(folder, "val", {0: "b.png"})
    assert path.exists()
    assert "copy-in-both" not in found(folder)


def test_the_same_image_twice_in_one_json(folder):
    rename(folder, "train", {1: "./train0.png"})
    shutil.copy(folder / "images/train2.png", folder / "images/train3.png")
    both = found(folder)
    assert set(both) == {"image-twice", "image-copied"}
    assert (both["image-twice"].harm, both["image-copied"].harm) == ("warning", "note")


def test_an_image_of_two_training_jsons(folder):
    rename(folder, "val", {0: "./train0.png"})
    one = found(folder, train=("train.json", "val.json"), val=())["image-in-two-sets"]
    assert (one.count, Path(one.file).name) == (1, "val.json")


@pytest.mark.parametrize("copied", [False, True])
def test_a_json_that_is_trained_and_evaluated_on_is_said_once(folder, copied):
    name = "train.json"
    if copied:
        name = "other.json"
        shutil.copy(folder / "train.json", folder / name)
    (one,) = found(folder, val=(name,)).values()
    assert (one.kind, one.harm) == ("same-source", "warning")
    # Another one beside it is looked at all the same.
    rename(folder, "val", {0: "train0.png"})
    assert set(found(folder, val=(name, "val.json"))) == {"same-source", "image-in-both"}


def test_a_json_given_twice(folder):
    assert set(found(folder, train=("train.json",) * 2)) == {"same-source"}
    assert found(folder, val=("val.json", "val.json")) == {}


@pytest.mark.parametrize(
    ("train", "val", "swapped"),
    [
        ("val.json", "train.json", True),
        ("x/valid/_annotations.coco.json", "x/train/_annotations.coco.json", True),
        ("instances_val2017.json", "instances_train2017.json", True),
        ("x/train/_annotations.coco.json", "x/valid/_annotations.coco.json", False),
        ("train_test/a.json", "train_test/b.json", False),
        ("train_val.json", "train.json", False),
        ("trainer.json", "valve.json", False),
    ],
)
def test_names_in_each_others_place(folder, train, val, swapped):
    for name, source in ((train, "train.json"), (val, "val.json")):
        (folder / "s" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / source, folder / "s" / name)
    kinds = set(found(folder / "s", train=(train,), val=(val,), roots=["../images"]))
    assert kinds == ({"splits-swapped"} if swapped else set())


def test_more_images_evaluated_than_trained_on(folder):
    content = json.loads((folder / "train.json").read_text())
    content["images"] = content["images"][:3]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] <= 3]
    (folder / "train.json").write_text(json.dumps(content))
    one = found(folder)["splits-sizes"]
    assert (one.harm, one.what) == ("note", "4 images are evaluated, 3 are trained on")


def test_class_folders_are_compared_by_place_with_headers_only(folder):
    root = folder / "photos"
    for row, (split, name) in enumerate([("train", "a"), ("train", "b"), ("val", "a")]):
        picture(root / split / name / "0.png", 10 + 10 * row)
    os.symlink(root / "train/b/0.png", root / "val/a/1.png")
    train, val = str(root / "train"), str(root / "val")

    def kinds(*paths):
        return {one.kind for one in inspect_images([paths[0]], [paths[1]], quick=True).findings}

    assert "image-of-two-classes" in kinds(train, val)
    assert "splits-swapped" in kinds(val, train)
    assert "same-source" in kinds(train, train)
