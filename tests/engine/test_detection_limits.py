"""NMS threshold, score threshold and detections an image beside every AP."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from lt_det.engine.detection_limits import DetectionLimits, nms_threshold
from lt_det.engine.trainer import LongTailTrainer
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import as_retinanet, small_model


def evaluation(folder: Path, kind: str, name: str, **keys: object):
    """Return a config that evaluates a model of random weights, which finds much that overlaps."""
    cfg = tiny_config(folder, "standard" if kind == "retinanet" else kind)
    if kind == "retinanet":
        cfg = as_retinanet(cfg, loss="focal")
        cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.LT_DET.EVAL.PICTURES = False
    cfg.TEST.DETECTIONS_PER_IMAGE = 40
    cfg.MODEL.MASK_ON = kind == "standard"
    cfg.MODEL.WEIGHTS = str(folder / f"{kind}.pth")
    cfg.OUTPUT_DIR = str(folder / f"{kind}_{name}")
    cfg.merge_from_list([part for k, v in keys.items() for part in (k.replace("__", "."), v)])
    if not Path(cfg.MODEL.WEIGHTS).exists():
        torch.save({"model": small_model(cfg).state_dict()}, cfg.MODEL.WEIGHTS)
    return cfg


def detections(folder: Path) -> list:
    return json.loads((folder / "coco_instances_results.json").read_text())


@pytest.mark.parametrize(
    "kind",
    [
        "standard",
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("cascade", "res5", "retinanet")),
    ],
)
def test_several_thresholds_in_one_pass_are_those_of_separate_evaluations(tmp_path, kind):
    key = "MODEL__RETINANET__NMS_THRESH_TEST" if kind == "retinanet" else None
    key = key or "MODEL__ROI_HEADS__NMS_THRESH_TEST"
    both = evaluation(tmp_path, kind, "both", LT_DET__EVAL__NMS_THRESHOLDS=(0.1, 0.5))
    together = LongTailTrainer.evaluate_checkpoint(both)
    folders = {0.5: "", 0.1: "nms0.1"}
    files = []
    for threshold, folder in folders.items():
        cfg = evaluation(tmp_path, kind, f"alone{threshold}", **{key: threshold})
        alone = LongTailTrainer.evaluate_checkpoint(cfg)
        suffix = f"_{folder}" if folder else ""
        for task in alone:
            assert together[task + suffix] == pytest.approx(alone[task], abs=0, nan_ok=True)
        found = detections(Path(both.OUTPUT_DIR) / "inference" / folder)
        assert found == detections(Path(cfg.OUTPUT_DIR) / "inference")
        files.append(found)
        protocol = json.loads((Path(cfg.OUTPUT_DIR) / "results.json").read_text())["protocol"]
        of_both = json.loads((Path(both.OUTPUT_DIR) / "results.json").read_text())["protocol"]
        assert of_both[f"bbox{suffix}"] == protocol["bbox"]
        assert protocol["bbox"] == {
            "nms_threshold": threshold,
            "score_threshold": 0.0,
            "most_detections": 40,
            "detections_per_image": len(found) / 8,
        }
    assert files[0] != files[1]  # the thresholds do something to this model
    assert len(together) == 2 * len(alone)  # the model's own once only


def test_every_evaluation_says_its_limits(tmp_path, caplog):
    cfg = evaluation(tmp_path, "standard", "one")
    with caplog.at_level(logging.INFO):
        LongTailTrainer.evaluate_checkpoint(cfg)
    found = len(detections(Path(cfg.OUTPUT_DIR) / "inference")) / 8
    line = f"NMS threshold 0.5, score threshold 0, {found:.1f} detections an image (at most 40)"
    assert line in caplog.text


@pytest.mark.parametrize("value", [0.0, 1.5, "0.3"])
def test_thresholds_that_are_none_are_refused(tmp_path, value):
    cfg = evaluation(tmp_path, "standard", "bad")
    cfg.LT_DET.EVAL.NMS_THRESHOLDS = (value,)
    with pytest.raises(ValueError, match="LT_DET.EVAL.NMS_THRESHOLDS: expected overlaps above 0"):
        LongTailTrainer.evaluate_checkpoint(cfg)


def test_the_threshold_comes_back(tmp_path):
    model = small_model(evaluation(tmp_path, "cascade", "back"))
    with nms_threshold(model, 0.3):
        assert DetectionLimits.of_model(model).nms_threshold == 0.3
    assert DetectionLimits.of_model(model).nms_threshold == 0.5
