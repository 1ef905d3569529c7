"""Training records from the cache against Detectron2's, record by record."""

from __future__ import annotations

import json
import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import (
    load_lvis_json,
    register_coco_instances,
    register_lvis_instances,
)
from detectron2.structures import BoxMode

from lt_det.data.annotations.datasets import register_lvis_format
from lt_det.data.records.dataset_dicts import detection_dicts
from lt_det.data.records.stored_records import StoredRecords
from lt_det.data.sampling.samplers import classes_of_images

NAME = "lvis_v0.5_lt_det_test"  # Detectron2 takes the classes of LVIS from a name like that


@pytest.fixture(autouse=True)
def _forget():
    before = set(DatasetCatalog.list()), set(MetadataCatalog.list())
    yield
    for catalog, names in zip((DatasetCatalog, MetadataCatalog), before):
        for name in set(catalog.list()) - names:
            catalog.remove(name)


def register(kind: str, name: str, shared_data, *, root: str = "images/") -> None:
    lvis, coco = shared_data / "lvis", shared_data / "coco"
    if kind == "lvis":
        register_lvis_instances(name, {}, str(lvis / "lvis_v0.5_val_100.json"), root)
    elif kind == "coco":
        json_file = str(coco / "annotations" / "instances_train2017.json")
        register_coco_instances(name, {}, json_file, str(coco / "train2017"))
    else:
        register_lvis_format(name, lvis / "coco_mini_lvis_train.json", coco)


def forget(name: str) -> None:
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


@pytest.mark.parametrize("filter_empty", [True, False])
@pytest.mark.parametrize("kind", ["lvis", "coco", "ours"])
def test_the_same_records_and_metadata_as_detectron2(
    kind, filter_empty, shared_data, tmp_path, monkeypatch
):
    register(kind, NAME, shared_data)
    expected = get_detection_dataset_dicts(NAME, filter_empty=filter_empty)
    metadata = MetadataCatalog.get(NAME).as_dict()
    for start in range(3):
        forget(NAME)
        register(kind, NAME, shared_data)
        if start == 2:  # neither parsed nor hashed any more
            monkeypatch.setattr(json, "load", None)
        dicts = detection_dicts(NAME, filter_empty=filter_empty, cache_dir=tmp_path, smallest=0)
        assert isinstance(dicts, StoredRecords)
        assert len(dicts) == len(expected) > 90
        for record, other in zip(dicts, expected):
            assert record == other
            assert list(record) == list(other)
            for annotation in record["annotations"]:
                assert annotation["bbox_mode"] is BoxMode.XYWH_ABS
        assert MetadataCatalog.get(NAME).as_dict() == metadata
    assert len(list(tmp_path.glob("records_*.bin"))) == 1


def test_the_same_as_load_lvis_json(shared_data, tmp_path):
    register("lvis", NAME, shared_data)
    json_file = str(shared_data / "lvis" / "lvis_v0.5_val_100.json")
    for _ in range(2):
        dicts = detection_dicts(NAME, filter_empty=False, cache_dir=tmp_path, smallest=0)
        assert list(dicts) == load_lvis_json(json_file, "images/", NAME)


@pytest.fixture
def crowded(shared_data, tmp_path) -> None:
    """Every seventh object is a crowd, and all of one image are."""
    path = shared_data / "coco" / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    alone = content["annotations"][0]["image_id"]
    for k, annotation in enumerate(content["annotations"]):
        annotation["iscrowd"] = int(k % 7 == 0 or annotation["image_id"] == alone)
    (tmp_path / "crowded.json").write_text(json.dumps(content))
    register_coco_instances(NAME, {}, str(tmp_path / "crowded.json"), "images")


@pytest.mark.usefixtures("crowded")
def test_images_with_crowds_only_are_left_out_as_by_detectron2(tmp_path):
    expected = get_detection_dataset_dicts(NAME)
    assert 0 < len(expected) < len(DatasetCatalog.get(NAME)) - 3  # which have no annotation
    assert list(detection_dicts(NAME, cache_dir=tmp_path, smallest=0)) == expected


@pytest.mark.usefixtures("crowded")
def test_samplers_see_what_the_records_hold(tmp_path):
    expected = get_detection_dataset_dicts(NAME)
    dicts = detection_dicts(NAME, cache_dir=tmp_path, smallest=0)
    assert classes_of_images(dicts) == classes_of_images(expected)


@pytest.mark.usefixtures("crowded")
def test_the_table_of_instances_is_detectron2s(caplog, monkeypatch):
    import detectron2.data.build as build

    # The real one logs the first table of a process only.
    log = logging.getLogger("lt_det.test")
    monkeypatch.setattr(build, "log_first_n", lambda level, text, **_: log.log(level, text))
    tables = []
    for get in (get_detection_dataset_dicts, detection_dicts):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            get([NAME])
        tables += [r.getMessage() for r in caplog.records if "Distribution" in r.getMessage()]
    assert len(tables) == 2
    assert tables[0] == tables[1]


def test_several_sets_come_one_after_another(shared_data, tmp_path):
    register("coco", "lt_det_test_a", shared_data)
    register("ours", "lt_det_test_b", shared_data)
    names = ["lt_det_test_a", "lt_det_test_b"]
    expected = get_detection_dataset_dicts(names)
    assert list(detection_dicts(names, cache_dir=tmp_path, smallest=0)) == expected
    MetadataCatalog.get(names[1]).__dict__["thing_classes"] = ["other"]
    with pytest.raises(ValueError, match="thing_classes"):
        detection_dicts(names, cache_dir=tmp_path / "new", smallest=10**9)


def test_another_image_root_gives_other_records(shared_data, tmp_path):
    for root in ("a/", "b/"):
        register("lvis", NAME, shared_data, root=root)
        first = detection_dicts(NAME, cache_dir=tmp_path, smallest=0)[0]
        assert first["file_name"].startswith(root)
        forget(NAME)


def test_images_that_appear_later_are_found(tmp_path):
    content = {
        "images": [
            {"id": 5, "height": 9, "width": 9, "file_name": "five.jpg", "coco_url": "u/x.jpg"}
        ],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 2, "bbox": [0, 0, 3, 3]}],
        "categories": [{"id": 2, "name": "cat"}],
    }
    (tmp_path / "set.json").write_text(json.dumps(content))
    register_lvis_format(NAME, tmp_path / "set.json", tmp_path)
    options = {"cache_dir": tmp_path / "cache", "smallest": 0}
    assert detection_dicts(NAME, **options)[0]["file_name"].endswith("five.jpg")
    (tmp_path / "u").mkdir()
    (tmp_path / "u" / "x.jpg").touch()  # now the second rule holds
    assert detection_dicts(NAME, **options)[0]["file_name"] == str(tmp_path / "u" / "x.jpg")
    (tmp_path / "u" / "x.jpg").unlink()
    assert detection_dicts(NAME, **options)[0]["file_name"].endswith("five.jpg")


def test_a_json_changed_after_registration_is_refused_as_before(shared_data, tmp_path):
    content = json.loads((shared_data / "lvis" / "coco_mini_lvis_train.json").read_text())
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    register_lvis_format(NAME, path, shared_data / "coco")
    detection_dicts(NAME, cache_dir=tmp_path / "cache", smallest=0)
    content["categories"][0]["name"] = "renamed"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="changed since it was registered"):
        detection_dicts(NAME, cache_dir=tmp_path / "cache", smallest=0)


def test_functions_of_ones_own_are_called_every_time(tmp_path):
    calls = []

    def load():
        calls.append(1)
        return [{"file_name": "x", "annotations": [{"category_id": 0, "bbox": [0, 0, 1, 1]}]}]

    DatasetCatalog.register(NAME, load)
    MetadataCatalog.get(NAME).set(json_file=str(tmp_path / "set.json"), thing_classes=["a"])
    for _ in range(2):
        assert isinstance(detection_dicts(NAME, cache_dir=tmp_path, smallest=0), list)
    assert len(calls) == 2
    assert not list(tmp_path.iterdir())
