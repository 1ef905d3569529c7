"""Lists, jsons, csvs and folders of image files."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from lt_det.data.image_lists import read_csv, read_folders, read_inaturalist, read_list


@pytest.fixture
def images(tmp_path):
    """Folder with a/0.png, a/1.png, b c/2.png and b c/3.png."""
    root = tmp_path / "images"
    for index, folder in enumerate(["a", "a", "b c", "b c"]):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / folder / f"{index}.png")
    return root


def test_list_of_paths_and_labels(tmp_path, images):
    path = tmp_path / "list.txt"
    path.write_text("b c/2.png 2\na/0.png 0\n\na/1.png 0\n")
    table = read_list(str(path), str(images), name="l")
    assert table.labels.tolist() == [2, 0, 0]
    assert table.class_names == ("0", "1", "2")
    assert table.records()[0] == {
        "image_id": 0,
        "category_id": 2,
        "file_name": str(images / "b c/2.png"),
    }


@pytest.mark.parametrize("line", ["a/1.png", "a/1.png one", "a/1.png -1"])
def test_line_of_another_form(tmp_path, images, line):
    path = tmp_path / "list.txt"
    path.write_text(f"a/0.png 0\n{line}\n")
    with pytest.raises(ValueError, match=r"'l': line 2 of .*list.txt must be 'path label'"):
        read_list(str(path), str(images), name="l")


def test_missing_list_and_missing_images(tmp_path, images):
    with pytest.raises(FileNotFoundError, match="ImageNet_LT_train.txt"):
        read_list(str(tmp_path / "no.txt"), str(images), name="l")
    path = tmp_path / "list.txt"
    path.write_text("a/7.png 0\n")
    with pytest.raises(FileNotFoundError, match=f"put the images of the data set below {images}"):
        read_list(str(path), str(images), name="l")
    path.write_text("")
    with pytest.raises(ValueError, match="'l' holds no image"):
        read_list(str(path), str(images), name="l")


def inaturalist(tmp_path, **changes):
    content = {
        "images": [{"id": 5, "file_name": "a/0.png"}, {"id": 3, "file_name": "b c/2.png"}],
        "annotations": [{"image_id": 3, "category_id": 9}, {"image_id": 5, "category_id": 4}],
        "categories": [{"id": 9, "name": "moss"}, {"id": 4, "name": "moss"}],
        **changes,
    }
    path = tmp_path / "train2018.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_inaturalist_json(tmp_path, images):
    table = read_inaturalist(inaturalist(tmp_path), str(images), name="i")
    assert table.class_names == ("4 moss", "9 moss")
    assert table.labels.tolist() == [1, 0]
    assert table.records()[0]["file_name"] == str(images / "b c/2.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "no iNaturalist json: KeyError: 3"),
        ({"categories": [{"id": 4, "name": "x"}]}, r"does not list, first \[9\]"),
    ],
)
def test_broken_inaturalist_json(tmp_path, images, changes, message):
    with pytest.raises(ValueError, match=message):
        read_inaturalist(inaturalist(tmp_path, **changes), str(images), name="i")


def test_csv_with_names_and_splits(images):
    path = images / "all.csv"
    path.write_text("path,label,split\na/0.png,dog,train\nb c/2.png,cat,test\na/1.png,dog,test\n")
    table = read_csv(str(path), "test", name="c")
    assert table.class_names == ("cat", "dog")
    assert table.labels.tolist() == [0, 1]
    assert len(read_csv(str(path), "", name="c").labels) == 3
    with pytest.raises(ValueError, match=r"split 'val'; there are \['test', 'train'\]"):
        read_csv(str(path), "val", name="c")
    path.write_text("path,label,split\na/0.png,10,train\na/0.png,9,train\n")
    assert read_csv(str(path), "train", name="c").class_names == ("9", "10")
    path.write_text("path,label\na/0.png,dog\na/1.png,\n")
    with pytest.raises(ValueError, match=r"not so in the lines \[3\]"):
        read_csv(str(path), "", name="c")


def test_tree_of_folders(images):
    table = read_folders(str(images), "", name="f")
    assert table.class_names == ("a", "b c")
    assert table.labels.tolist() == [0, 0, 1, 1]
    assert table.records()[3]["file_name"] == str(images / "b c/3.png")
    assert read_folders(str(images.parent), "images", name="f").labels.tolist() == [0, 0, 1, 1]
    (images / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no image"):
        read_folders(str(images), "", name="f")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        read_folders(str(images / "nowhere"), "", name="f")
