"""Perfect predictions have AP 100 whatever an export wrote as area; and so the sizes."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from lt_det.evaluation.coco_evaluator import LongTailCOCOEvaluator
from lt_det.evaluation.lvis.average_precision import BACKENDS, lvis_average_precision
from tests.evaluation.fake_detector import feed, register
from tests.evaluation.lvis.sets import random_ground_truth, rle

NAME = "lt_det_test_areas"


def box_area(annotation: dict) -> float:
    return annotation["bbox"][2] * annotation["bbox"][3]


@pytest.fixture
def truth() -> dict:
    """Objects that fill their boxes, exhaustively annotated, each with its id and right area."""
    truth = random_ground_truth(np.random.default_rng(11))
    truth["annotations"] = [a for a in truth["annotations"] if box_area(a) and not a["ignore"]]
    for annotation in truth["annotations"]:
        del annotation["segmentation"]
        annotation["area"] = box_area(annotation)
    return truth


def half_zero(truth):
    for annotation in truth["annotations"][::2]:
        annotation["area"] = 0


def all_zero(truth):
    for annotation in truth["annotations"]:
        annotation["area"] = 0


def all_kinds(truth):
    values = (0, float("nan"), -5.0, None, 0.0, float("inf"), "")
    for index, annotation in enumerate(truth["annotations"]):
        annotation["area"] = values[index % len(values)]
        if index % 9 == 8:
            del annotation["area"]


CHANGES = [half_zero, all_zero, all_kinds]


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize("change", CHANGES)
def test_lvis(truth, change, backend, tmp_path, caplog):
    records = [
        {key: a[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
        for a in truth["annotations"]
    ]
    expected = lvis_average_precision(truth, records, iou_type="bbox", backend=backend).summary
    assert expected["AP"] == pytest.approx(100, abs=1e-9)
    assert "'area'" not in caplog.text
    change(truth)
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    for given in (truth, path):
        result = lvis_average_precision(given, records, iou_type="bbox", backend=backend)
        assert result.summary == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert f" {len(truth['annotations'][::2])} of " in caplog.text or change != half_zero
    assert "'area' is missing" in caplog.text


def outputs(truth: dict, *, with_masks: bool = False) -> list[tuple[dict, dict]]:
    ids = sorted(c["id"] for c in truth["categories"])
    pairs = []
    for image in truth["images"]:
        mine = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        boxes = torch.tensor([a["bbox"] for a in mine]).reshape(-1, 4)
        instances = Instances((image["height"], image["width"]))
        instances.pred_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1))
        instances.scores = torch.full((len(mine),), 0.9)
        instances.pred_classes = torch.tensor(
            [ids.index(a["category_id"]) for a in mine], dtype=torch.int64
        )
        pairs.append(({"image_id": image["id"]}, {"instances": instances}))
    return pairs


@pytest.mark.parametrize("change", CHANGES)
def test_coco(truth, change, tmp_path, caplog):
    expected = coco_result(truth, tmp_path)
    assert expected["AP"] == pytest.approx(100, abs=1e-9)
    assert "'area'" not in caplog.text
    changed = copy.deepcopy(truth)
    change(changed)
    assert coco_result(changed, tmp_path) == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert "'area' is missing" in caplog.text


@pytest.mark.parametrize("ids", [range(0, 1000), [0] * 1000, [1, 1, 2, 2, 3] * 200])
def test_coco_does_not_depend_on_annotation_ids(truth, ids, tmp_path):
    """As the metric of LVIS does not: id 0 would be unmatched, one of two with an id lost."""
    for annotation, number in zip(truth["annotations"], ids):
        annotation["id"] = number
    assert coco_result(truth, tmp_path)["AP"] == pytest.approx(100, abs=1e-9)


@pytest.mark.parametrize("flag", ["0", "false", None, False, 0.0])
def test_coco_takes_a_flag_as_it_is_meant(truth, flag, tmp_path):
    for annotation in truth["annotations"]:
        annotation["iscrowd"] = flag
    assert coco_result(truth, tmp_path)["AP"] == pytest.approx(100, abs=1e-9)


def test_coco_masks_decide_the_size(truth, tmp_path):
    """A thin mask in a large box is small."""
    box = [10.0, 10.0, 100.0, 100.0]
    mask = [[10, 10, 110, 10, 110, 14, 10, 14]]
    image = truth["images"][0]["id"]
    category = truth["categories"][0]["id"]
    common = {"image_id": image, "category_id": category, "bbox": box, "iscrowd": 0}
    for segmentation, keys in ((mask, ("APs", "APl")), (rle(mask), ("APs", "APl"))):
        truth["annotations"] = [{**common, "id": 1, "area": 0, "segmentation": segmentation}]
        result = coco_result(truth, tmp_path)
        assert result[keys[0]] == pytest.approx(100, abs=1e-9)
        assert np.isnan(result[keys[1]])


def coco_result(truth: dict, folder) -> dict:
    register(NAME, truth, folder)
    evaluator = LongTailCOCOEvaluator(NAME)
    feed(evaluator, outputs(truth))
    result = evaluator.evaluate()["bbox"]
    return {k: v for k, v in result.items() if "-" not in k}
