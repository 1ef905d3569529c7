"""What is said, or refused, before the first iteration: not wrong numbers after the last."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from lt_det.data.annotations.datasets import register_lvis_format
from lt_det.data.records.dataset_dicts import detection_dicts
from lt_det.data.warn_once import warn_once
from lt_det.engine.evaluators import check_test_sets
from lt_det.engine.loading.build import build_train_stream
from lt_det.engine.startup.setup import load_config
from lt_det.engine.trainer import LongTailTrainer
from lt_det.tasks.train_samplers import build_train_sampler
from tests.engine.tiny import tiny_config

NAME = "start_checks"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, tmp_path):
    monkeypatch.setenv("LT_DET_CACHE", str(tmp_path / "cache"))
    warn_once.cache_clear()
    before = set(DatasetCatalog.list()), set(MetadataCatalog.list())
    yield
    for catalog, names in zip((DatasetCatalog, MetadataCatalog), before):
        for name in set(catalog.list()) - names:
            catalog.remove(name)


def with_test_set(cfg, change, folder: Path, **keys):
    """Return a config that is tested on a changed copy of its training set."""
    _, json_file, root = cfg.LT_DET.DATASETS[0]
    content = json.loads(Path(json_file).read_text())
    change(content)
    path = folder / "test.json"
    path.write_text(json.dumps(content))
    register_lvis_format(NAME, path, root)
    cfg.DATASETS.TEST = (NAME,)
    cfg.merge_from_list([part for k, v in keys.items() for part in (k.replace("__", "."), v)])
    return cfg


def swap_ids(content):
    """Give the first two classes each other's id."""
    other = {1: 2, 2: 1}
    for category in content["categories"]:
        category["id"] = other.get(category["id"], category["id"])
    for annotation in content["annotations"]:
        annotation["category_id"] = other.get(annotation["category_id"], annotation["category_id"])
    for image in content["images"]:
        image["neg_category_ids"] = [other.get(i, i) for i in image["neg_category_ids"]]


def test_ground_truth_that_cannot_be_evaluated_is_refused_before_the_training(tmp_path):
    def break_box(content):
        content["annotations"][3]["bbox"] = [1, 1, -4, 4]

    cfg = with_test_set(tiny_config(tmp_path), break_box, tmp_path)
    with pytest.raises(ValueError, match=f"{NAME}.*'bbox' of 1 of .*annotation 4"):
        LongTailTrainer(cfg)


def test_two_ids_swapped_between_the_splits_train_and_evaluate_as_without(tmp_path, caplog):
    plain = LongTailTrainer(tiny_config(tmp_path, SOLVER__MAX_ITER=1))
    plain.resume_or_load(resume=False)
    expected = plain.test(plain.cfg, plain.model)
    swapped = with_test_set(tiny_config(tmp_path), swap_ids, tmp_path, SOLVER__MAX_ITER=1)
    trainer = LongTailTrainer(swapped)
    assert "class 0 is 'class_1' here and 'class_0' in the training set" in caplog.text
    # The same weights: perfect agreement although the ids differ.
    trainer.model.load_state_dict(plain.model.state_dict())
    found = trainer.test(trainer.cfg, trainer.model)
    for task, metrics in expected.items():
        for key, value in metrics.items():
            assert found[task][key] == pytest.approx(value, abs=1e-9, nan_ok=True), (task, key)


def test_a_class_of_the_test_set_that_is_not_trained_on_is_named(tmp_path):
    def add(content):
        content["categories"].append({"id": 77, "name": "okapi"})
        content["annotations"].append({**content["annotations"][0], "id": 9999, "category_id": 77})

    cfg = with_test_set(tiny_config(tmp_path), add, tmp_path)
    with pytest.raises(ValueError, match=rf"{NAME}.*1 classes.*okapi \(1 objects\)"):
        check_test_sets(cfg, class_names=[f"class_{k}" for k in range(6)])


@pytest.mark.parametrize(
    ("kind", "value", "warned"),
    [("lvis", 0.0001, False), ("lvis", 0.001, False), ("lvis", 0.05, True),
     ("coco", 0.05, False), ("coco", 0.3, True)],
)  # fmt: skip
def test_a_score_threshold_that_changes_ap_is_named(tmp_path, kind, value, warned, caplog):
    cfg = tiny_config(tmp_path, MODEL__ROI_HEADS__SCORE_THRESH_TEST=value)
    name = cfg.DATASETS.TEST[0]
    MetadataCatalog.get(name).__dict__["evaluator_type"] = kind
    check_test_sets(cfg)
    text = f"MODEL.ROI_HEADS.SCORE_THRESH_TEST is {value:g}: detections of lower scores"
    assert (text in caplog.text) == warned


@pytest.mark.parametrize(("threshold", "warned"), [(0.001, True), (0.03, True), (0.04, False)])
def test_a_repeat_threshold_that_repeats_nothing_is_named(threshold, warned, caplog):
    # Of 100 images 3 show class 1: a share of 0.03.
    records = [{"annotations": [{"category_id": int(i < 3)}]} for i in range(100)]
    cfg = load_config(
        "", ["LT_DET.SAMPLER.NAME", "repeat_factor", "DATALOADER.REPEAT_THRESHOLD", threshold]
    )
    build_train_sampler(cfg, records, seed=0)
    text = f"REPEAT_THRESHOLD {threshold:g} repeats none of the 100 images"
    assert (text in caplog.text) == warned
    assert ("share of 0.03" in caplog.text) == warned


def test_images_of_16_bits_are_refused_in_training_and_named_in_tests(tmp_path, caplog):
    cfg = tiny_config(tmp_path)
    _, _, root = cfg.LT_DET.DATASETS[0]
    deep = np.full((64, 64), 4000, np.uint16)
    Image.fromarray(deep).save(Path(root) / "3.png")
    with pytest.raises(ValueError, match=r"DATASETS.TRAIN.*1 images.*3\.png.*white.*8 bits"):
        build_train_stream(cfg)
    # A mapper of one's own may know better.
    build_train_stream(cfg, mapper=lambda record: record)
    check_test_sets(cfg)
    assert "DATASETS.TEST" in caplog.text
    assert "3.png" in caplog.text


@pytest.mark.parametrize("large", [False, True])
def test_a_cut_image_of_a_test_set_is_refused_before_the_training(tmp_path, monkeypatch, large):
    cfg = with_test_set(tiny_config(tmp_path), dict.copy, tmp_path)
    check_test_sets(cfg)
    path = Path(cfg.LT_DET.DATASETS[0][2]) / "3.png"
    path.write_bytes(path.read_bytes()[:300])
    if large:  # its annotations are not read for that
        monkeypatch.setattr("lt_det.engine.loading.evaluated_images.SMALLEST", 0)
    with pytest.raises(ValueError, match=rf"DATASETS.TEST '{NAME}': 1 of .*first .*3.png: .*trunc"):
        check_test_sets(cfg)


@pytest.mark.parametrize("register", ["ours", "coco"])
@pytest.mark.parametrize("flag", ["0", "false", 0, None])
def test_crowd_flags_written_as_text_do_not_empty_the_training_set(tmp_path, register, flag):
    cfg = tiny_config(tmp_path)
    _, json_file, root = cfg.LT_DET.DATASETS[0]
    content = json.loads(Path(json_file).read_text())
    for annotation in content["annotations"]:
        annotation["iscrowd"] = flag
    path = tmp_path / "flags.json"
    path.write_text(json.dumps(content))
    if register == "ours":
        register_lvis_format(NAME, path, root)
    else:
        register_coco_instances(NAME, {}, str(path), root)
    dicts = detection_dicts([NAME])
    assert sum(len(d["annotations"]) for d in dicts) == len(content["annotations"])
    # What Detectron2's mapper looks at.
    assert all(a.get("iscrowd", 0) == 0 for d in dicts for a in d["annotations"])
