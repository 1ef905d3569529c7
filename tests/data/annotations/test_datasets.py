"""Registering with Detectron2 and counting whatever is registered."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

pytest.importorskip("detectron2")

from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from detectron2.data import transforms as T
from detectron2.data.dataset_mapper import DatasetMapper
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.data.datasets.lvis import get_lvis_instances_meta, register_lvis_instances
from detectron2.structures import BoxMode

from lt_det.data.annotations.datasets import (
    class_stats_of,
    register_from_config,
    register_lvis_format,
)
from lt_det.data.stats.class_stats import count_annotations


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LT_DET_CACHE", str(tmp_path / "cache"))


def test_metadata_is_there_before_the_annotations_are_read(tiny, write, catalog):
    register_lvis_format("tiny", write(tiny), "root", colour="red")
    metadata = MetadataCatalog.get("tiny")
    assert metadata.thing_classes == ["cat", "yak", "dog"]
    assert metadata.thing_dataset_id_to_contiguous_id == {4: 0, 11: 1, 50: 2}
    assert metadata.evaluator_type == "lvis"
    assert (metadata.image_root, metadata.colour) == ("root", "red")
    assert metadata.get("class_image_count") is None
    assert DatasetCatalog.get("tiny")[0]["file_name"] == "root/two.jpg"
    assert DatasetCatalog.get("tiny")[0]["annotations"][0]["bbox_mode"] is BoxMode.XYWH_ABS


def test_declared_image_counts_reach_detectron2s_federated_loss(mini_lvis, catalog):
    register_lvis_format("mini", mini_lvis)
    counts = MetadataCatalog.get("mini").class_image_count
    categories = json.loads(mini_lvis.read_text())["categories"]
    expected = {category["id"]: category["image_count"] for category in categories}
    assert {entry["id"]: entry["image_count"] for entry in counts} == expected


def test_registering_again_is_fine_and_another_file_is_not(tiny, write, catalog):
    path = write(tiny)
    register_lvis_format("tiny", path, "root")
    register_lvis_format("tiny", str(path), "root")
    with pytest.raises(ValueError, match=r"'tiny' is taken.*other\.json"):
        register_lvis_format("tiny", write(tiny, "other.json"), "root")
    with pytest.raises(ValueError, match="'tiny' is taken.*'elsewhere'"):
        register_lvis_format("tiny", path, "elsewhere")


def test_a_missing_file_is_an_error_when_needed_and_may_come_later(tiny, write, tmp_path, catalog):
    path = tmp_path / "later.json"
    register_lvis_format("tiny", path)
    for use in (DatasetCatalog.get, class_stats_of):
        with pytest.raises(FileNotFoundError, match=r"'tiny'.*later\.json.*DETECTRON2_DATASETS"):
            use("tiny")
    write(tiny, "later.json")
    assert len(DatasetCatalog.get("tiny")) == 4
    assert MetadataCatalog.get("tiny").thing_classes == ["cat", "yak", "dog"]


def test_a_file_changed_after_registration_is_an_error(tiny, write, catalog):
    path = write(tiny)
    register_lvis_format("tiny", path)
    tiny["categories"][0]["name"] = "wolf"
    write(tiny)
    with pytest.raises(ValueError, match="'tiny'.*thing_classes.*changed"):
        DatasetCatalog.get("tiny")
    with pytest.raises(ValueError, match="'tiny'.*'wolf' in the json, 'dog' in thing_classes"):
        class_stats_of("tiny")


def test_unusable_categories_register_nothing(tiny, write, catalog):
    tiny["categories"][0]["name"] = "cat"
    with pytest.raises(ValueError, match=r"'tiny'.*'name'.*\['cat'\]"):
        register_lvis_format("tiny", write(tiny))
    assert "tiny" not in DatasetCatalog.list()


def test_one_line_of_yaml_registers(tiny, write, catalog):
    path = write(tiny)
    register_from_config([["one", str(path), "root"], ("two", str(path))])
    assert MetadataCatalog.get("one").image_root == "root"
    assert class_stats_of("two").image_counts == (1, 0, 2)


@pytest.mark.parametrize("entry", [["name"], "abc", ["a", "b", "c", "d"], ["a", 3], [["a", "b"]]])
def test_a_malformed_yaml_entry_is_named(entry, catalog):
    with pytest.raises(ValueError, match=r"entries\[0\] must be \[name, json_file"):
        register_from_config([entry])


def test_counts_equal_those_of_the_loaded_dicts(tiny, write, catalog, mini_lvis):
    tiny["annotations"][3]["segmentation"] = [[0, 0, 5, 5]]
    register_lvis_format("tiny", write(tiny))
    register_lvis_format("mini", mini_lvis)
    for name in ("tiny", "mini"):
        names = MetadataCatalog.get(name).thing_classes
        loaded = count_annotations(DatasetCatalog.get(name), names, name=name)
        assert class_stats_of(name) == loaded


def test_coco_is_counted_as_detectron2_loads_it(tiny, write, catalog, shared_data):
    real = shared_data / "coco/annotations/instances_train2017.json"
    for name, path in (("tiny_coco", write(tiny)), ("real_coco", real)):
        register_coco_instances(name, {}, str(path), "root")
        before = class_stats_of(name)  # no thing_classes yet
        assert MetadataCatalog.get(name).get("thing_classes") is None
        dicts = load_coco_json(str(path), "root", name)
        names = MetadataCatalog.get(name).thing_classes
        assert before == class_stats_of(name) == count_annotations(dicts, names, name=name)
        assert before.class_names == tuple(names)


def test_detectron2s_own_lvis_sets_are_counted_by_their_names(lvis_v0_5, catalog):
    register_lvis_instances(
        "lvis_v0.5_mine", get_lvis_instances_meta("lvis_v0.5"), str(lvis_v0_5), "coco/"
    )
    stats = class_stats_of("lvis_v0.5_mine")
    names = MetadataCatalog.get("lvis_v0.5_mine").thing_classes
    assert stats.class_names == tuple(names)
    pytest.importorskip("lvis")
    dicts = DatasetCatalog.get("lvis_v0.5_mine")
    assert stats == count_annotations(dicts, names, name="lvis_v0.5_mine")


def test_lvis_ids_that_detectron2_would_shift_wrongly_are_refused(tiny, write, catalog):
    metadata = {"thing_classes": ["cat", "yak", "dog"]}
    register_lvis_instances("tiny_v1", metadata, str(write(tiny)), "")
    with pytest.raises(ValueError, match=r"'tiny_v1'.*first only in the json: \[4, 11, 50\]"):
        class_stats_of("tiny_v1")


def test_plain_dicts_are_counted_by_calling_their_function(catalog):
    records = [{"image_id": 1, "annotations": [{"category_id": 1}, {"category_id": 1}]}]
    DatasetCatalog.register("plain", lambda: records)
    with pytest.raises(ValueError, match="'plain' has no thing_classes"):
        class_stats_of("plain")
    MetadataCatalog.get("plain").thing_classes = ["a", "b"]
    stats = class_stats_of("plain")
    assert (stats.image_counts, stats.instance_counts) == ((0, 1), (0, 2))


def test_too_few_thing_classes_name_the_key(catalog):
    DatasetCatalog.register("plain", lambda: [{"annotations": [{"category_id": 2}]}])
    MetadataCatalog.get("plain").thing_classes = ["a", "b"]
    with pytest.raises(ValueError, match="'plain': category_id.*thing_classes has 2"):
        class_stats_of("plain")


def test_a_plain_set_with_missing_files_names_the_environment_variable(catalog):
    def load():
        raise FileNotFoundError("no such folder: VOC2007")

    DatasetCatalog.register("plain", load)
    with pytest.raises(FileNotFoundError, match="'plain'.*VOC2007.*DETECTRON2_DATASETS"):
        class_stats_of("plain")


def test_an_unregistered_name_brings_the_close_ones():
    with pytest.raises(KeyError, match=r"lvis_v1_trian.*lvis_v1_train.*DETECTRON2_DATASETS"):
        class_stats_of("lvis_v1_trian")


def test_several_sets_are_merged_under_the_given_limits(tiny, write, catalog):
    register_lvis_format("one", write(tiny))
    register_lvis_format("two", write(tiny, "two.json"))
    stats = class_stats_of(("one", "two"), rare_max=2, common_max=3)
    assert stats.image_counts == (2, 0, 4)
    assert stats.num_images == 4
    assert stats.frequency_groups == ("r", "r", "f")


def test_an_empty_class_is_named_in_one_warning_only(tiny, write, catalog, caplog):
    register_lvis_format("tiny", write(tiny))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            stats = class_stats_of("tiny")
    warnings = [r.getMessage() for r in caplog.records if "have no image" in r.getMessage()]
    assert len(warnings) == 1
    assert "1 of 3" in warnings[0]
    assert "yak" in warnings[0]
    np.testing.assert_array_equal(stats.counts(), [1, 1, 2])


def test_a_class_empty_in_one_set_only_gives_no_warning(tiny, write, catalog, caplog):
    register_lvis_format("one", write(tiny))
    tiny["annotations"][0]["category_id"] = 11
    register_lvis_format("two", write(tiny, "two.json"))
    class_stats_of(["one", "two"])
    assert "have no image" not in caplog.text


def test_a_set_with_crowds_only_is_an_error(tiny, write, catalog):
    tiny["annotations"] = tiny["annotations"][-1:]
    register_lvis_format("tiny", write(tiny))
    with pytest.raises(ValueError, match="'tiny' has no annotation that training would use"):
        class_stats_of("tiny")


def test_bad_annotations_are_refused_at_loading_and_at_counting(tiny, write, catalog):
    tiny["annotations"][2]["bbox"][2] = -4
    register_lvis_format("tiny", write(tiny))
    for use in (DatasetCatalog.get, class_stats_of):
        with pytest.raises(ValueError, match="'tiny'.*'bbox'.*annotation 3 of image 2"):
            use("tiny")


def test_the_real_lvis_format_set_goes_through_detectron2s_train_loader(
    mini_lvis, shared_data, catalog
):
    register_lvis_format("mini", mini_lvis, shared_data / "coco/train2017")
    dicts = DatasetCatalog.get("mini")
    assert len(dicts) == 150
    mapper = DatasetMapper(
        True, augmentations=[T.Resize((96, 96))], image_format="BGR", use_instance_mask=True
    )
    loader = build_detection_train_loader(
        [record for record in dicts if record["annotations"]],
        mapper=mapper,
        total_batch_size=2,
        num_workers=0,
        aspect_ratio_grouping=False,
    )
    for sample in next(iter(loader)):
        assert tuple(sample["image"].shape) == (3, 96, 96)
        instances = sample["instances"]
        assert instances.has("gt_masks")
        truth = next(d for d in dicts if d["image_id"] == sample["image_id"])
        # Boxes may shrink to nothing at this size, so no more than the annotations.
        assert set(instances.gt_classes.tolist()) <= {
            a["category_id"] for a in truth["annotations"]
        }
