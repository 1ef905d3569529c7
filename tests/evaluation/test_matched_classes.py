"""Perfect predictions have AP 100 on a test set whose classes were matched by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, Instances

from lt_det.data.annotations.class_matching import check_evaluation_json, match_classes
from lt_det.data.annotations.datasets import register_lvis_format
from lt_det.data.stats.class_stats import ClassStats
from lt_det.evaluation.coco_evaluator import LongTailCOCOEvaluator
from lt_det.evaluation.lvis.evaluator import LongTailLVISEvaluator
from tests.evaluation.fake_detector import feed

NAME = "lt_det_test_matched"
CLASSES = ("person", "cup", "dog", "zebra")
STATS = ClassStats(
    name="train",
    class_names=CLASSES,
    image_counts=(500, 50, 5, 5),
    instance_counts=(500, 50, 5, 5),
    num_images=600,
    source="annotations",
)
BOXES = {"dog": [5.0, 5.0, 40.0, 40.0], "person": [50.0, 40.0, 30.0, 30.0]}


@pytest.fixture(autouse=True)
def _forget(monkeypatch, tmp_path):
    monkeypatch.setenv("LT_DET_CACHE", str(tmp_path / "cache"))
    yield
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def perfect(*, also_zebra: bool) -> list[tuple[dict, dict]]:
    """The boxes, as a model trained on CLASSES finds them; and what the test set knows not of."""
    names = [*BOXES] + (["zebra"] if also_zebra else [])
    boxes = torch.tensor([BOXES.get(n, [0.0, 0.0, 90.0, 90.0]) for n in names])
    instances = Instances((100, 100))
    instances.pred_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1))
    instances.scores = torch.tensor([0.8, 0.7, 0.9])[: len(names)]
    instances.pred_classes = torch.tensor([CLASSES.index(n) for n in names])
    return [({"image_id": 3}, {"instances": instances})]


@pytest.mark.parametrize("kind", ["lvis", "coco"])
@pytest.mark.parametrize(
    "ids",
    [
        {"person": 3, "cup": 2, "dog": 1, "zebra": 4},
        {"dog": 0, "person": 1},
        {"root": 0, "person": 9, "dog": 4},
    ],
)
def test_perfect_predictions(kind, ids, tmp_path):
    truth = {
        "images": [{"id": 3, "file_name": "3.jpg", "height": 100, "width": 100}],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
        "annotations": [
            {"id": k, "image_id": 3, "category_id": ids[n], "bbox": box, "area": box[2] ** 2}
            for k, (n, box) in enumerate(BOXES.items(), start=1)
        ],
    }
    path = tmp_path / "val.json"
    path.write_text(json.dumps(truth))
    if kind == "lvis":
        register_lvis_format(NAME, path)
    else:
        register_coco_instances(NAME, {}, str(path), "")
    match_classes(NAME, CLASSES, check_evaluation_json(NAME))
    build = LongTailLVISEvaluator if kind == "lvis" else LongTailCOCOEvaluator
    evaluator = build(NAME, class_stats=STATS, output_dir=str(tmp_path / "out"))
    feed(evaluator, perfect(also_zebra=True))
    result = evaluator.evaluate()["bbox"]
    assert result["AP"] == pytest.approx(100, abs=1e-9)
    assert result["APf"] == pytest.approx(100, abs=1e-9)  # person
    assert result["APr"] == pytest.approx(100, abs=1e-9)  # dog
    assert np.isnan(result["APc"])  # cup
    rows = json.loads((tmp_path / "out" / "per_category_bbox.json").read_text())["categories"]
    assert {r["name"]: r["category_id"] for r in rows} == {
        n: number for n, number in ids.items() if n in CLASSES
    }
    assert {r["name"]: r["AP"] for r in rows if r["AP"] is not None} == {
        n: pytest.approx(100, abs=1e-9) for n in BOXES
    }
    detections = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
    assert {d["category_id"] for d in detections} <= set(ids.values())
    assert {ids["dog"], ids["person"]} <= {d["category_id"] for d in detections}


@pytest.mark.parametrize("kind", ["lvis", "coco"])
def test_nothing_found_is_explained(kind, tmp_path, caplog):
    path = tmp_path / "val.json"
    truth = {
        "images": [{"id": 3, "file_name": "3.jpg", "height": 100, "width": 100}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 3, "category_id": 1, "bbox": BOXES["dog"]}],
    }
    path.write_text(json.dumps(truth))
    if kind == "lvis":
        register_lvis_format(NAME, path)
    else:
        register_coco_instances(NAME, {}, str(path), "")
    build = LongTailLVISEvaluator if kind == "lvis" else LongTailCOCOEvaluator
    evaluator = build(NAME, score_threshold="MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.9")
    pairs = perfect(also_zebra=False)
    pairs[0][1]["instances"] = pairs[0][1]["instances"][:0]
    feed(evaluator, pairs)
    evaluator.evaluate()
    assert "nothing was detected in any image above MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.9" in (
        caplog.text
    )
