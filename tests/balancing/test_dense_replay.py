"""Detections of a dense detector with other classifiers are those of the detector with them."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.data import DatasetCatalog

from lt_det.balancing import run as balance_run
from lt_det.balancing.dense_replay import DenseReplay, is_dense
from lt_det.balancing.options import BalanceOptions
from lt_det.balancing.replay import PostProcessing, differs
from tests.balancing.test_replay import sample
from tests.balancing.test_run import detections_of_plain, trained
from tests.modeling.dense.test_retinanet import fcos
from tests.modeling.small_models import as_retinanet, small_config, small_model


def built(kind):
    if kind == "fcos":
        model = fcos(ours=False)
    else:
        model = small_model(as_retinanet(small_config("standard"), ours=kind == "ours"))
    torch.manual_seed(3)
    with torch.no_grad():
        model.head.cls_score.weight.normal_(std=0.5)
        model.head.cls_score.bias.normal_(std=0.5)
    return model.eval()


@pytest.mark.parametrize("kind", ["ours", "stock", "fcos"])
def test_replay_is_the_detector_to_the_last_bit(kind):
    model = built(kind)
    (expected,) = model([sample()])
    replay = DenseReplay(model)
    detections = replay.image(sample())
    (again,) = detections(replay.own_classifiers(), [replay.own])
    assert len(again) > 10
    assert not differs(again, expected["instances"])
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.head.cls_score.weight *= 1.5
        other.head.cls_score.bias -= 0.25
    other.test_score_thresh, other.test_nms_thresh = 0.2, 0.3
    (of_detector,) = other([sample()])
    assert differs(of_detector["instances"], expected["instances"])
    of_other = DenseReplay(other).own_classifiers()
    (of_replay,) = detections(of_other, [PostProcessing(0.2, 0.3)])
    assert not differs(of_replay, of_detector["instances"])
    other.load_state_dict(replay.state(of_other), strict=False)
    assert all(
        torch.equal(a, b)
        for one, two in zip(DenseReplay(other).own_classifiers(), of_other)
        for a, b in zip(one, two)
    )
    (after,) = model([sample()])
    assert not differs(after["instances"], expected["instances"])


def test_what_is_dense():
    assert is_dense(built("ours"))
    assert not is_dense(small_model(small_config("standard")))


def test_plain_detectron2_has_the_same_detections(tmp_path):
    cfg = trained(tmp_path, change=as_retinanet)
    options = BalanceOptions(score_thresholds=(), nms_thresholds=(0.3,))
    output = tmp_path / "balance"
    balanced = balance_run.run_balance(cfg, options, output)
    assert balanced.is_plain
    assert "no classifier is trained" in " ".join(balanced.outcome.notes)
    assert {row["level"] for row in balanced.outcome.rows} == {
        "as trained",
        "post-processing",
        "calibration",
    }
    subject, _ = balance_run.plan_balance(cfg, options, output)
    names = ("tau-norm tau 0.5", "logit adjustment tau 1")
    for candidate in subject.calibrations():
        if candidate.name not in names:
            continue
        limits = PostProcessing(0.01, 0.3)
        subject.write(output, candidate.classifiers, limits)
        files = [r["file_name"] for r in DatasetCatalog.get(cfg.DATASETS.TEST[0])][:3]
        find = subject.images()
        for place, found in enumerate(detections_of_plain(output, files, tmp_path)):
            (ours,) = find(place)(candidate.classifiers, [limits])
            assert len(ours) > 3
            assert torch.equal(ours.scores, found[1])
            assert torch.equal(ours.pred_classes, found[2])
            assert torch.equal(ours.pred_boxes.tensor, found[0])


def test_scores_that_detectron2_has_not_are_refused(tmp_path):
    cfg = trained(tmp_path, change=as_retinanet)
    cfg.LT_DET.LOSS = "gumbel"
    with pytest.raises(ValueError, match="'gumbel', scores by gumbel_scores, not sigmoid"):
        balance_run.run_balance(cfg, BalanceOptions(), tmp_path / "balance")
