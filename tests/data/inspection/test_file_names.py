"""File names as tools write them: mapped where one file only can be meant, else named."""

from __future__ import annotations

import json
import os
import unicodedata

import pytest

from lt_det.data.inspection.data_sets import inspect_data_sets
from lt_det.data.inspection.file_names import image_paths, near_names, reason_for_none
from lt_det.data.inspection.images import name_findings
from lt_det.data.inspection.labelled_images import inspect_images
from tests.data.inspection.test_labelled_images import picture


def named(folder, *file_names) -> dict[int, str]:
    images = [{"id": row, "file_name": name} for row, name in enumerate(file_names)]
    return image_paths(images, str(folder))[1]


@pytest.fixture
def folder(tmp_path):
    names = ("a b.jpg", "x/größe.jpg", "x/1.jpg", "y/1.jpg", "IMG_7.JPG")
    for name in names:
        name = unicodedata.normalize("NFD", name)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("a%20b.jpg", "a b.jpg"),
        ("https://host.org/p/a%20b.jpg?sig=1&x=%2F", "a b.jpg"),
        ("x/größe.jpg", "x/größe.jpg"),
        ("GRÖßE.jpg", "x/größe.jpg"),
        ("img_7.jpg", "IMG_7.JPG"),
        ("IMG_7.JPG ", "IMG_7.JPG"),
        ("X\\1.JPG", "x/1.jpg"),
        ("data/Y/1.jpg", "y/1.jpg"),
        ("1.jpg", None),
        ("z/1.jpg", None),
        ("IMG_7.png", None),
    ],
)
def test_one_file_only_can_be_meant_or_none_is_taken(folder, written, found):
    expected = {} if found is None else {0: unicodedata.normalize("NFD", found)}
    assert named(folder, written) == expected


def test_names_that_differ_by_capitals_only_are_not_mixed_up(folder):
    (folder / "img_7.jpg").write_bytes(b"y")
    assert named(folder, "Img_7.jpg") == {}
    assert named(folder, "img_7.jpg", "IMG_7.JPG") == {}


def test_a_link_to_nothing_is_not_put_in_the_place_of_itself(folder):
    os.symlink("/nowhere/b.jpg", folder / "b.jpg")
    os.symlink("/nowhere/c.jpg", folder / "x/c.jpg")
    images = [{"id": 1, "file_name": "b.jpg"}, {"id": 2, "file_name": "c.jpg"}]
    paths, names = image_paths(images, str(folder))
    assert names == {}
    (one,) = name_findings("f", images, paths, names, image_root=str(folder))
    assert not one.mendable
    assert one.first[0].endswith("is a link to /nowhere/b.jpg, where no file is")
    assert reason_for_none(str(folder / "x")).endswith("is a folder")


def test_near_names_are_said(folder):
    names = ["IMG_7.png", "IMG_007.JPG", "IMGS_7.JPG", "IMG_17.JPG", "quite else.tif", None]
    assert near_names(names, str(folder)) == dict.fromkeys(names[:3], "IMG_7.JPG")
    images = [{"id": 1, "file_name": "IMG_7.png"}]
    paths, names = image_paths(images, str(folder))
    (one,) = name_findings("f", images, paths, names, image_root=str(folder))
    assert "there is IMG_7.JPG" in one.first[0]


def test_a_file_of_another_entry_is_not_offered(tmp_path):
    picture(tmp_path / "v003.png", 10)
    categories = [{"id": 1, "name": "cat"}]
    for split in "tv":
        images = [{"id": 1, "file_name": f"{split}003.png", "width": 8, "height": 8}]
        content = {"images": images, "annotations": [], "categories": categories}
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    train, val = tmp_path / "t.json", tmp_path / "v.json"
    for jsons, offered in (([train], True), ([train, val], False)):
        found = inspect_data_sets(jsons[:1], jsons[1:], image_roots=[tmp_path])
        (one,) = (f for f in found.findings if f.kind == "missing-image")
        assert ("there is v003.png" in one.first[0]) == offered
        (one,) = (f for f in found.findings_after_mending() if f.kind == "missing-image")
        assert ("there is v003.png" in one.first[0]) == offered
    (tmp_path / "t.csv").write_text("path,label\nv003.png,x\nt003.png,y\n")
    found = {one.kind: one for one in inspect_images([str(tmp_path / "t.csv")]).findings}
    assert "there is" not in found["missing-image"].first[0]


def test_near_names_are_said_of_a_csv(tmp_path):
    for value, name in enumerate(("a 1.png", "b.png")):
        picture(tmp_path / name, 10 + value * 40)
    (tmp_path / "t.csv").write_text("path,label\na%201.png,x\nB.png,y\n")
    found = {one.kind: one for one in inspect_images([str(tmp_path / "t.csv")]).findings}
    first = found["missing-image"].first
    assert ["there is a 1.png" in first[0], "there is b.png" in first[1]] == [True, True]
