"""Lists, jsons, csvs and folders of image files."""

from __future__ import annotations

import json
import sys

import pytest
from PIL import Image

from lt_det.data.images.lists import (
    csv_rows,
    find_splits,
    read_csv,
    read_folders,
    read_inaturalist,
    read_list,
)


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


def test_columns_and_splits_of_a_csv_in_any_spelling(images):
    path = images / "all.csv"
    path.write_text("Path,LABEL,Split\na/0.png,dog,Train\na/1.png,dog,train\nb c/2.png,cat,Valid\n")
    assert find_splits(str(path)) == ("train", "Valid")
    assert [len(read_csv(str(path), s, name="c").labels) for s in ("train", "Valid")] == [2, 1]
    # Only what names a split is one; a column of the very name is taken.
    path.write_text("Path,path,label,split\nx,a/0.png,dog,A\nx,a/1.png,dog,a\n")
    assert len(read_csv(str(path), "a", name="c").labels) == 1
    assert find_splits(str(path)) == ("", "")


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


def test_csv_of_a_spreadsheet(images):
    """A byte-order mark, blanks after the commas, Windows's line ends."""
    path = images / "all.csv"
    path.write_bytes(
        "\ufeffpath, label, split\r\na/0.png, cat , train\r\na/1.png,dog, train\r\n".encode()
    )
    table = read_csv(str(path), "train", name="c")
    assert table.class_names == ("cat", "dog")
    assert table.labels.tolist() == [0, 1]
    assert table.records()[0]["file_name"].endswith("a/0.png")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"path;label\na/0.png;cat\n",
            r"lacks \['path', 'label', 'split'\], it has \['path;label'\]",
        ),
        (b"path,label\na/0.png,cat\n", r"lacks \['split'\]"),
        (b"", "lacks .*it has"),
        (b"path,label,split\n", "must have rows"),
        (b"path,label,split\na/0.png,,train\n", r"lines \[2\]"),
        ("path,label,split\na/0.png,k\u00e4se,train\n".encode("latin1"), "not in UTF-8"),
    ],
)
def test_csvs_of_another_form(images, content, words):
    path = images / "all.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_csv(str(path), "train", name="c")


def test_numbers_of_one_value_are_two_classes_in_a_fixed_order(images):
    path = images / "all.csv"
    for rows in ("a/0.png,01\na/1.png,1\n", "a/1.png,1\na/0.png,01\n"):
        path.write_text(f"path,label\n{rows}b c/2.png,1\u00b2\n".replace("1\u00b2", "2"))
        assert read_csv(str(path), "", name="c").class_names == ("01", "1", "2")
    path.write_text("path,label\na/0.png,\u00b2\na/1.png,3\n", encoding="utf-8")
    assert read_csv(str(path), "", name="c").class_names == ("3", "\u00b2")


def test_list_with_a_byte_order_mark_and_a_label_that_is_no_number(tmp_path, images):
    path = tmp_path / "list.txt"
    path.write_text("\ufeffa/0.png 0\r\na/1.png 1\r\n", encoding="utf-8")
    assert read_list(str(path), str(images), name="l").labels.tolist() == [0, 1]
    path.write_text("a/0.png \u00b2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="must be 'path label'"):
        read_list(str(path), str(images), name="l")


def test_folders_that_are_no_classes(images, caplog):
    (images / ".cache").mkdir()
    assert read_folders(str(images), "", name="f").class_names == ("a", "b c")
    assert not caplog.records
    (images / "a").rename(images / "Train")
    (images / "b c").rename(images / "val")
    read_folders(str(images), "", name="f")
    assert "look like splits" in caplog.text


@pytest.mark.parametrize("cell", ["\0", "x" * 131_073])
@pytest.mark.parametrize("head", ["path,label\n", ""])
def test_a_csv_that_cannot_be_parsed_is_named_with_its_line(tmp_path, cell, head):
    path = tmp_path / "a.csv"
    path.write_text(f"{head}{cell},b\n")
    if cell == "\0" and sys.version_info >= (3, 11):
        pytest.skip("Python 3.11 reads NUL")
    with pytest.raises(ValueError, match=rf"'s': line {2 if head else 1} of .*a.csv cannot"):
        csv_rows(str(path), ["path", "label"], name="s")
