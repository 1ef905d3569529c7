from __future__ import annotations

import csv
import json
import logging

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import LVISEvaluator

from lt_det.evaluation.analysis.options import AnalysisOptions
from lt_det.evaluation.lvis.average_precision import METRICS, lvis_average_precision
from lt_det.evaluation.lvis.evaluator import LongTailLVISEvaluator
from tests.evaluation.fake_detector import class_stats, feed, predictions, register
from tests.evaluation.lvis.sets import random_ground_truth

NAME = "lt_det_test_lvis_evaluator"


@pytest.fixture
def ground_truth(tmp_path) -> dict:
    truth = random_ground_truth(np.random.default_rng(11))
    register(NAME, truth, tmp_path)
    return truth


@pytest.mark.parametrize("max_dets", [300, 7])
@pytest.mark.parametrize("with_masks", [True, False])
def test_equals_detectron2_where_both_are_defined(
    ground_truth, with_masks, max_dets, tmp_path, monkeypatch
):
    monkeypatch.setattr(np, "float", float, raising=False)  # for lvis 0.5.3
    pairs = predictions(ground_truth, seed=1, with_masks=with_masks)
    ours = LongTailLVISEvaluator(NAME, max_dets_per_image=max_dets, output_dir=str(tmp_path / "a"))
    stock = LVISEvaluator(NAME, max_dets_per_image=max_dets, output_dir=str(tmp_path / "b"))
    feed(ours, pairs)
    feed(stock, pairs)
    results, expected = ours.evaluate(), stock.evaluate()
    assert list(results) == list(expected) == (["bbox", "segm"] if with_masks else ["bbox"])
    for task in results:
        assert list(results[task]) == list(expected[task])
        for metric, value in expected[task].items():
            if value == -100:  # nothing to average
                assert np.isnan(results[task][metric])
            else:
                assert results[task][metric] == pytest.approx(value, abs=1e-9)
    written = json.loads((tmp_path / "a" / "coco_instances_results.json").read_text())
    assert written == json.loads((tmp_path / "b" / "lvis_instances_results.json").read_text())


@pytest.mark.parametrize("backend", ["hotcoco", "lvis-api"])
def test_groups_come_from_the_training_statistics(ground_truth, backend, tmp_path, caplog):
    pairs = predictions(ground_truth, seed=2)
    evaluator = LongTailLVISEvaluator(
        NAME, class_stats=class_stats(ground_truth), output_dir=str(tmp_path), backend=backend
    )
    feed(evaluator, pairs)
    with caplog.at_level(logging.INFO, logger="lt_det"):
        results = evaluator.evaluate()
    ids = sorted(c["id"] for c in ground_truth["categories"])
    groups = {category_id: "fcr"[k % 3] for k, category_id in enumerate(ids)}
    records = json.loads((tmp_path / "coco_instances_results.json").read_text())
    for task in ("bbox", "segm"):
        expected = lvis_average_precision(
            ground_truth,
            [{k: v for k, v in r.items() if task == "bbox" or k != "bbox"} for r in records],
            iou_type=task,
            frequency_groups=groups,
        )
        np.testing.assert_equal(results[task], expected.summary)
        assert results[task]["APr"] != results[task]["APf"]
    for metric in METRICS:
        assert metric in caplog.text
    objects = [a for a in ground_truth["annotations"] if a["area"] and not a["ignore"]]
    present = {a["category_id"] for a in objects}
    for group, word in (("r", "rare"), ("c", "common"), ("f", "frequent")):
        count = sum(groups[category_id] == group for category_id in present)
        assert f"{word} {count} of 4" in caplog.text


def test_an_analysis_goes_to_files_and_its_table_to_the_log(ground_truth, tmp_path, caplog):
    options = AnalysisOptions(resamples=10)
    for analysis, folder in ((options, tmp_path / "with"), (None, tmp_path / "without")):
        evaluator = LongTailLVISEvaluator(NAME, output_dir=str(folder), analysis=analysis)
        feed(evaluator, predictions(ground_truth, seed=3))
        with caplog.at_level(logging.INFO):
            results = evaluator.evaluate()
    assert "AP-Pool" in caplog.text
    for task in ("bbox", "segm"):
        content = json.loads((tmp_path / "with" / f"analysis_{task}.json").read_text())
        assert content["groups"]["all"]["AP"] == results[task]["AP"]
        assert content["groups"]["r"]["AP"] == results[task]["APr"]
        assert (tmp_path / "with" / f"matches_{task}.npz").is_file()
        assert not (tmp_path / "without" / f"analysis_{task}.json").exists()


def test_single_categories_go_to_files_and_not_to_the_results(ground_truth, tmp_path):
    evaluator = LongTailLVISEvaluator(NAME, output_dir=str(tmp_path))
    feed(evaluator, predictions(ground_truth, seed=3))
    results = evaluator.evaluate()
    for task in ("bbox", "segm"):
        assert set(results[task]) == set(METRICS)
        content = json.loads((tmp_path / f"per_category_{task}.json").read_text())
        with open(tmp_path / f"per_category_{task}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert content["dataset"] == NAME
        assert content["summary"]["AP"] == results[task]["AP"]
        assert len(rows) == len(content["categories"]) == len(ground_truth["categories"])
        defined = [c["AP"] for c in content["categories"] if c["AP"] is not None]
        assert 0 < len(defined) < len(rows)
        assert np.mean(defined) == pytest.approx(results[task]["AP"], abs=1e-9)
        for row, category in zip(rows, content["categories"]):
            assert row["name"] == category["name"] == f"class {category['category_id']}"
            assert row["group"] == category["group"]
            assert row["AP"] == ("" if category["AP"] is None else str(category["AP"]))
        objects = [a for a in ground_truth["annotations"] if a["area"] and not a["ignore"]]
        assert sum(c["num_gt_instances"] for c in content["categories"]) == len(objects)
    assert not list(tmp_path.glob("*.part"))


def test_ids_are_contiguous_plus_one_without_a_mapping(tmp_path):
    truth = random_ground_truth(np.random.default_rng(4))
    new_ids = {old: k + 1 for k, old in enumerate(sorted(c["id"] for c in truth["categories"]))}
    for row in truth["categories"]:
        row["id"] = new_ids[row["id"]]
    for row in truth["annotations"]:
        row["category_id"] = new_ids[row["category_id"]]
    for image in truth["images"]:
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            image[key] = [new_ids[i] for i in image[key]]
    pairs, results = predictions(truth, seed=4), []
    for with_mapping in (True, False):
        register(NAME, truth, tmp_path, with_mapping=with_mapping)
        evaluator = LongTailLVISEvaluator(NAME)
        feed(evaluator, pairs)
        results.append(evaluator.evaluate())
    np.testing.assert_equal(results[0], results[1])
    assert results[0]["bbox"]["AP"] > 0


def test_a_model_that_finds_nothing_has_ap_0(ground_truth, tmp_path):
    evaluator = LongTailLVISEvaluator(NAME, output_dir=str(tmp_path))
    feed(evaluator, predictions(ground_truth, seed=0, per_image=0))
    results = evaluator.evaluate()
    assert results["bbox"]["AP"] == results["segm"]["AP"] == 0
    assert json.loads((tmp_path / "coco_instances_results.json").read_text()) == []


def test_no_image_at_all_gives_an_empty_result(ground_truth, caplog):
    evaluator = LongTailLVISEvaluator(NAME)
    assert evaluator.evaluate() == {}
    assert "nothing to evaluate" in caplog.text


def test_a_test_set_without_annotations_writes_the_detections_only(ground_truth, tmp_path):
    pairs = predictions(ground_truth, seed=0)
    register(NAME, {**ground_truth, "annotations": []}, tmp_path)
    evaluator = LongTailLVISEvaluator(NAME, output_dir=str(tmp_path / "out"))
    feed(evaluator, pairs)
    assert evaluator.evaluate() == {}
    assert json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())


def test_reset_forgets_and_images_predicted_twice_count_once(ground_truth, caplog):
    pairs = predictions(ground_truth, seed=5)
    evaluator = LongTailLVISEvaluator(NAME)
    feed(evaluator, predictions(ground_truth, seed=6))
    feed(evaluator, pairs)
    once = evaluator.evaluate()
    feed(evaluator, [*pairs, *predictions(ground_truth, seed=6)[:2]])
    np.testing.assert_equal(evaluator.evaluate(), once)
    assert "2 images were predicted more than once" in caplog.text


def test_images_left_out_count_as_without_detections(ground_truth, caplog):
    evaluator = LongTailLVISEvaluator(NAME)
    pairs = predictions(ground_truth, seed=7)
    feed(evaluator, pairs[:3])
    part = evaluator.evaluate()
    assert "Only 3 of 8 images" in caplog.text
    empty = predictions(ground_truth, seed=7, per_image=0)
    feed(evaluator, [*pairs[:3], *empty[3:]])
    np.testing.assert_equal(evaluator.evaluate(), part)


def test_bbox_alone_needs_no_masks_anywhere(ground_truth, tmp_path):
    for annotation in ground_truth["annotations"]:
        del annotation["segmentation"]
    register(NAME, ground_truth, tmp_path)
    boxes_only = LongTailLVISEvaluator(NAME)
    feed(boxes_only, predictions(ground_truth, seed=8, with_masks=False))
    assert list(boxes_only.evaluate()) == ["bbox"]
    given = LongTailLVISEvaluator(NAME, tasks=("bbox",))
    feed(given, predictions(ground_truth, seed=8))
    assert list(given.evaluate()) == ["bbox"]
    inferred = LongTailLVISEvaluator(NAME)
    feed(inferred, predictions(ground_truth, seed=8))
    with pytest.raises(ValueError, match="no segmentation"):
        inferred.evaluate()


def spoil(pairs: list, field: str, value: object) -> int:
    """Put ``value`` into the first prediction of the second image; return that image's id."""
    model_input, model_output = pairs[1]
    values = model_output["instances"].get(field)
    (values.tensor if field == "pred_boxes" else values)[0] = value
    return model_input["image_id"]


@pytest.mark.parametrize("field", ["pred_boxes", "scores"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_predictions_that_are_not_finite_name_the_image(ground_truth, field, value):
    pairs = predictions(ground_truth, seed=9)
    image_id = spoil(pairs, field, value)
    with pytest.raises(ValueError, match=f"{field} of image {image_id} has 1 of 20"):
        feed(LongTailLVISEvaluator(NAME), pairs)


def test_a_class_that_the_data_set_lacks_names_the_image(ground_truth):
    pairs = predictions(ground_truth, seed=9)
    image_id = spoil(pairs, "pred_classes", 12)
    evaluator = LongTailLVISEvaluator(NAME)
    feed(evaluator, pairs)
    with pytest.raises(ValueError, match=f"image {image_id}: predicted class 12.*NUM_CLASSES"):
        evaluator.evaluate()


def test_an_image_of_another_data_set_is_named(ground_truth):
    pairs = predictions(ground_truth, seed=9)
    pairs[0][0]["image_id"] = 123456
    evaluator = LongTailLVISEvaluator(NAME)
    feed(evaluator, pairs)
    with pytest.raises(ValueError, match=f"{NAME}.*123456"):
        evaluator.evaluate()


def test_segm_without_masks_says_what_to_do(ground_truth):
    evaluator = LongTailLVISEvaluator(NAME, tasks=("bbox", "segm"))
    feed(evaluator, predictions(ground_truth, seed=9, with_masks=False))
    with pytest.raises(ValueError, match="pred_masks.*MASK_ON"):
        evaluator.evaluate()


def test_masks_are_kept_encoded(ground_truth):
    evaluator = LongTailLVISEvaluator(NAME)
    feed(evaluator, predictions(ground_truth, seed=9))
    held = [v for image in evaluator._predictions for v in vars(image).values()]
    assert not any(isinstance(v, torch.Tensor) for v in held)
    counts = [c for image in evaluator._predictions for c in image.mask_counts]
    assert all(isinstance(c, bytes) for c in counts)
    assert len(counts) == 20 * 6  # every fourth image has no detections


def test_wrong_arguments_are_named(ground_truth, tmp_path):
    with pytest.raises(ValueError, match="tasks.*'box'"):
        LongTailLVISEvaluator(NAME, tasks=("box",))
    with pytest.raises(ValueError, match="backend.*'fast'"):
        LongTailLVISEvaluator(NAME, backend="fast")
    with pytest.raises(ValueError, match="'nobody'.*json_file"):
        LongTailLVISEvaluator("nobody")
    stats = class_stats({"categories": ground_truth["categories"][:-1]})
    with pytest.raises(ValueError, match="'train' has 11 classes.*12"):
        LongTailLVISEvaluator(NAME, class_stats=stats)
    metadata = MetadataCatalog.get(NAME)
    mapping = dict(metadata.thing_dataset_id_to_contiguous_id)
    MetadataCatalog.remove(NAME)
    mapping[999] = mapping.pop(2)
    MetadataCatalog.get(NAME).set(
        json_file=str(tmp_path / f"{NAME}.json"), thing_dataset_id_to_contiguous_id=mapping
    )
    with pytest.raises(ValueError, match=r"differ: 12 and 12 ids.*\[2, 999\]"):
        LongTailLVISEvaluator(NAME)
