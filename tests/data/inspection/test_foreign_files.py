"""Files in the place of a json, and texts in the place of numbers: named as what they are."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import tarfile
import zipfile

import pytest

from lt_det.data.annotations.checks import check_annotations
from lt_det.data.annotations.file_kinds import foreign_kind
from lt_det.data.annotations.json_file import read_annotation_json
from lt_det.data.inspection.data_sets import inspect_data_sets
from lt_det.data.inspection.files import read_json_file
from tests.data.inspection.test_data_sets import good
from tests.data.inspection.test_labelled_images import picture


def archive(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w") as file:
            file.writestr("a.json", "{}")
    else:
        with tarfile.open(fileobj=stream, mode="w") as file:
            file.addfile(tarfile.TarInfo("a.json"))
    return stream.getvalue()


TEXT = json.dumps(good()).encode()
FOREIGN = {
    "yolo": (b"0 0.5 0.5 0.1 0.2\n3 .25 1e-1 0.1 0.2\n", "label file of YOLO"),
    "yolo polygon": (b"0 0.5 0.5 0.1 0.2 0.3 0.4\r\n", "label file of YOLO"),
    "tsv": (b"image\tlabel\na.jpg\tcat\nb.jpg\tdog\n", "a table (tsv)"),
    "csv": (b"image,x,y\na.jpg,1,2\n", "a table (csv)"),
    "yaml": (b"names: [cat, dog]\nnc: 2\n", "a yaml"),
    "jsonl": (b'{"a": 1}\n{"a": 2}\n{"a": 3}', "a jsonl"),
    "python": (repr(good()).encode(), "printed Python object"),
    "zip": (archive("zip"), "a zip archive"),
    "tar": (archive("tar"), "a tar archive"),
    "gz": (gzip.compress(TEXT), "compressed by gzip"),
    "bz2": (bz2.compress(TEXT), "compressed by bzip2"),
    "png": (b"\x89PNG\r\n\x1a\n\0\0", "an image (png)"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "pointer of Git LFS"),
    "xml": (b"\n<annotation></annotation>", "XML (Pascal VOC?)"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_the_kind_is_said_by_check_data_and_by_a_training(tmp_path, name):
    data, what = FOREIGN[name]
    path = tmp_path / "x.json"
    path.write_bytes(data)
    (one,) = read_json_file(path).findings
    assert one.kind == "foreign-json"
    assert what in one.what
    with pytest.raises(ValueError, match="no valid json but") as caught:
        read_annotation_json(path, name="x")
    assert what in str(caught.value)


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_cut_json_is_still_a_cut_json(tmp_path, share, indent):
    text = json.dumps(good(), indent=indent)
    text = text[: int(share * len(text))]
    assert foreign_kind(text.encode()) is None
    (tmp_path / "x.json").write_text(text)
    assert read_json_file(tmp_path / "x.json").findings[0].kind == "cut-json"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_wide_texts_are_read_and_named(tmp_path, encoding):
    path = tmp_path / "x.json"
    path.write_bytes(json.dumps(good()).encode(encoding))
    file = read_json_file(path)
    assert file.content == good()
    (one,) = file.findings
    assert (one.kind, one.mendable) == ("encoding", True)
    assert encoding[:6] in one.what
    with pytest.raises(ValueError, match=f"in {encoding[:6]}; write it as utf-8"):
        read_annotation_json(path, name="x")


def inspect(folder, content, **options):
    (folder / "train.json").write_text(json.dumps(content))
    return inspect_data_sets([folder / "train.json"], **options)


def test_sizes_that_are_texts_are_mended(tmp_path):
    content = good()
    content["images"][0].update(width="40", height="30.0")
    content["images"][1].update(width=" 40")
    found = inspect(tmp_path, content)
    (one,) = [one for one in found.findings if one.harm == "error"]
    assert (one.kind, one.count, one.mendable) == ("image-size-type", 2, True)
    assert found.files[0].mended == good()
    content["images"][0].update(width="wide")
    found = inspect(tmp_path, content)
    assert {(one.kind, one.mendable) for one in found.findings if one.harm == "error"} == {
        ("image-size-type", True),
        ("no-image-size", False),
    }


@pytest.mark.parametrize("wrong", [-1, 0.5, None, "wide"])
def test_sizes_that_are_none_are_those_of_the_files(tmp_path, wrong):
    content = good()
    content["images"][0]["width"] = wrong
    for image in content["images"]:
        image["height"] = 20
        image.update(width=24) if image["id"] > 1 else None
        picture(tmp_path / image["file_name"], 50 * image["id"])
    found = inspect(tmp_path, content, image_roots=[tmp_path])
    (one,) = [one for one in found.findings if one.harm == "error"]
    assert (one.kind, one.mendable) == ("no-image-size", True)
    assert found.files[0].mended["images"][0]["width"] == 24


def test_a_reference_that_is_the_text_of_a_number_is_called_so():
    content = good()
    content["annotations"][1]["category_id"] = "1"
    with pytest.raises(ValueError, match=r"the text '1' is not the number 1"):
        check_annotations(content, name="x")
    content["annotations"][1].update(category_id=1, image_id="2")
    with pytest.raises(ValueError, match=r"'images' \(the text '2' is not the number 2"):
        check_annotations(content, name="x")
    content["annotations"][1].update(image_id="zwei")
    with pytest.raises(ValueError, match=r"is not the id of any of 'images', first"):
        check_annotations(content, name="x")


def test_two_classes_of_one_number_cannot_be_mended(tmp_path):
    content = good()
    content["categories"].append({"id": "2", "name": "owl"})
    (one,) = [o for o in inspect(tmp_path, content).findings if o.kind == "category-id-type"]
    assert not one.mendable


def test_classes_whose_references_are_texts_have_objects(tmp_path):
    content = good()
    for one in content["annotations"]:
        one["category_id"] = str(one["category_id"])
    kinds = {one.kind for one in inspect(tmp_path, content).findings}
    assert kinds == {"unknown-category"}
