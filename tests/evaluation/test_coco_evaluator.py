from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances

import lt_det.evaluation.coco_evaluator as coco_evaluator
from lt_det.evaluation.coco_evaluator import LongTailCOCOEvaluator
from tests.evaluation.fake_detector import class_stats, feed, predictions, register
from tests.evaluation.lvis.sets import random_ground_truth, shifted

NAME = "lt_det_test_coco_evaluator"
GROUP_KEYS = ("APr", "APc", "APf")


@pytest.fixture
def ground_truth(tmp_path) -> dict:
    truth = random_ground_truth(np.random.default_rng(31))
    for index, annotation in enumerate(truth["annotations"]):
        annotation["iscrowd"] = int(index % 9 == 4)
    register(NAME, truth, tmp_path)
    return truth


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("with_masks", [True, False])
def test_stock_keys_are_untouched_and_groups_are_means_of_classes(
    ground_truth, with_masks, compiled, monkeypatch, tmp_path
):
    if compiled and not coco_evaluator.fast_coco_metric_is_built():
        pytest.skip("this Detectron2 has no compiled COCO metric")
    if not compiled:
        monkeypatch.setattr(coco_evaluator, "fast_coco_metric_is_built", lambda: False)
    pairs = predictions(ground_truth, seed=1, with_masks=with_masks)
    ours = LongTailCOCOEvaluator(
        NAME, output_dir=str(tmp_path / "ours"), class_stats=class_stats(ground_truth)
    )
    stock = COCOEvaluator(NAME, output_dir=str(tmp_path / "stock"), use_fast_impl=compiled)
    feed(ours, pairs)
    feed(stock, pairs)
    results, expected = ours.evaluate(), stock.evaluate()
    assert list(results) == list(expected) == (["bbox", "segm"] if with_masks else ["bbox"])
    names = [c["name"] for c in sorted(ground_truth["categories"], key=lambda c: c["id"])]
    for task in expected:
        without_groups = {k: v for k, v in results[task].items() if k not in GROUP_KEYS}
        np.testing.assert_equal(without_groups, expected[task])
        aps = [expected[task][f"AP-{name}"] for name in names]
        for key, start in (("APf", 0), ("APc", 1), ("APr", 2)):  # counts 500, 50, 5 in turn
            assert results[task][key] == pytest.approx(np.nanmean(aps[start::3]), abs=1e-9)
        content = json.loads((tmp_path / "ours" / f"per_category_{task}.json").read_text())
        written = [np.nan if c["AP"] is None else c["AP"] for c in content["categories"]]
        np.testing.assert_allclose(written, aps, rtol=0, atol=1e-9)
        assert [c["group"] for c in content["categories"]] == ["f", "c", "r"] * 4
        assert content["summary"]["APr"] == results[task]["APr"]
        assert not any("class" in key for key in content["summary"])
        ap50 = [np.nan if c["AP50"] is None else c["AP50"] for c in content["categories"]]
        assert np.nanmean(ap50) == pytest.approx(expected[task]["AP50"], abs=1e-9)
        ap75 = [np.nan if c["AP75"] is None else c["AP75"] for c in content["categories"]]
        assert np.nanmean(ap75) == pytest.approx(expected[task]["AP75"], abs=1e-9)
        objects = [a for a in ground_truth["annotations"] if not a["iscrowd"]]
        assert sum(c["num_gt_instances"] for c in content["categories"]) == len(objects)
        pairs_found = {(a["category_id"], a["image_id"]) for a in objects}
        assert sum(c["num_gt_images"] for c in content["categories"]) == len(pairs_found)


def test_classes_in_another_order_than_their_ids(ground_truth, tmp_path):
    """The metric goes by rising category ids, models and statistics by contiguous ids."""
    pairs = predictions(ground_truth, seed=1)
    plain = LongTailCOCOEvaluator(NAME, class_stats=class_stats(ground_truth))
    feed(plain, pairs)
    expected = plain.evaluate()["bbox"]

    metadata = MetadataCatalog.get(NAME)
    num_classes = len(metadata.thing_classes)
    order = np.random.default_rng(5).permutation(num_classes)  # old contiguous id -> new
    assert (order != np.arange(num_classes)).any()
    old = class_stats(ground_truth)
    inverse = np.argsort(order)
    stats = replace(
        old,
        class_names=tuple(old.class_names[i] for i in inverse),
        image_counts=tuple(old.image_counts[i] for i in inverse),
        instance_counts=tuple(old.instance_counts[i] for i in inverse),
    )
    mapping = metadata.thing_dataset_id_to_contiguous_id
    json_file = metadata.json_file
    MetadataCatalog.remove(NAME)
    MetadataCatalog.get(NAME).set(
        json_file=json_file,
        thing_classes=list(stats.class_names),
        thing_dataset_id_to_contiguous_id={i: int(order[k]) for i, k in mapping.items()},
    )
    for _, output in pairs:
        classes = output["instances"].pred_classes
        output["instances"].pred_classes = torch.from_numpy(order)[classes]
    evaluator = LongTailCOCOEvaluator(NAME, output_dir=str(tmp_path), class_stats=stats)
    feed(evaluator, pairs)
    results = evaluator.evaluate()["bbox"]
    assert results.keys() == expected.keys()
    for key, value in expected.items():
        assert results[key] == pytest.approx(value, abs=1e-9, nan_ok=True), key
    content = json.loads((tmp_path / "per_category_bbox.json").read_text())
    names = {c["id"]: c["name"] for c in ground_truth["categories"]}
    groups = dict(zip(stats.class_names, stats.frequency_groups))
    for row in content["categories"]:
        assert row["name"] == names[row["category_id"]]
        assert row["group"] == groups[row["name"]]


def test_without_statistics_the_groups_are_nan_with_a_warning(ground_truth, caplog):
    evaluator = LongTailCOCOEvaluator(NAME)
    assert "class_stats" in caplog.text
    feed(evaluator, predictions(ground_truth, seed=2))
    results = evaluator.evaluate()
    assert np.isnan([results["bbox"][key] for key in GROUP_KEYS]).all()
    assert results["bbox"]["AP"] > 0


def test_no_detections_give_nan_as_in_detectron2(ground_truth, tmp_path):
    evaluator = LongTailCOCOEvaluator(
        NAME, output_dir=str(tmp_path), class_stats=class_stats(ground_truth)
    )
    feed(evaluator, predictions(ground_truth, seed=0, per_image=0))
    assert np.isnan([evaluator.evaluate()["bbox"][key] for key in ("AP", *GROUP_KEYS)]).all()


def test_statistics_of_other_classes_are_refused(ground_truth):
    stats = class_stats({"categories": ground_truth["categories"][:-1]})
    with pytest.raises(ValueError, match="'train' has 11 classes.*12"):
        LongTailCOCOEvaluator(NAME, class_stats=stats)


def test_a_changed_detectron2_is_reported_at_once(ground_truth, monkeypatch):
    monkeypatch.delattr(COCOEvaluator, "_derive_coco_results")
    with pytest.raises(RuntimeError, match="_derive_coco_results"):
        LongTailCOCOEvaluator(NAME, class_stats=class_stats(ground_truth))


def test_real_coco_objects_found_slightly_off(shared_data):
    path = shared_data / "coco" / "annotations" / "instances_val2017.json"
    truth = json.loads(path.read_text())
    if NAME in MetadataCatalog.list():
        MetadataCatalog.remove(NAME)
    categories = sorted(truth["categories"], key=lambda c: c["id"])
    contiguous = {c["id"]: k for k, c in enumerate(categories)}
    MetadataCatalog.get(NAME).set(
        json_file=str(path),
        thing_classes=[c["name"] for c in categories],
        thing_dataset_id_to_contiguous_id=contiguous,
    )
    rng, pairs = np.random.default_rng(0), []
    for image in truth["images"]:
        objects = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        boxes = torch.tensor([shifted(a["bbox"], rng) for a in objects]).reshape(-1, 4)
        instances = Instances((image["height"], image["width"]))
        instances.pred_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1))
        instances.scores = torch.rand(len(objects))
        instances.pred_classes = torch.tensor([contiguous[a["category_id"]] for a in objects])
        pairs.append(({"image_id": image["id"]}, {"instances": instances}))
    evaluator = LongTailCOCOEvaluator(NAME, class_stats=class_stats(truth))
    feed(evaluator, pairs)
    results = evaluator.evaluate()["bbox"]
    sizes = [
        sum(not np.isnan(results[f"AP-{c['name']}"]) for c in categories[k::3]) for k in range(3)
    ]
    mean = np.average([results[key] for key in ("APf", "APc", "APr")], weights=sizes)
    assert mean == pytest.approx(results["AP"], abs=1e-9)
    assert 10 < results["AP"] < 90
