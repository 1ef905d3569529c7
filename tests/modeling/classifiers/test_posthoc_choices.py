"""NorCal, FRACAL and LogN by config keys: scores, exclusions and errors before an evaluation."""

from __future__ import annotations

import json
import os

import pytest
import torch

from lt_det.modeling.calibration import (
    Affine,
    LogitMoments,
    fracal,
    logn,
    norcal,
    sigmoid_fracal,
    tau_norm,
)
from lt_det.modeling.classifiers.build_posthoc import build_post_hoc, read_logit_moments
from lt_det.modeling.classifiers.posthoc import PostHocCorrection
from lt_det.modeling.roi.roi_heads import box_predictors
from tests.engine.digits import digits_config
from tests.modeling.small_models import HEADS, NUM_CLASSES, small_batch, small_config, small_model

COUNTS = torch.tensor([90.0, 50.0, 20.0, 5.0, 2.0, 1.0], dtype=torch.float64)
DIMENSIONS = torch.linspace(1, 2, NUM_CLASSES)


def moments_of(stage, columns):
    moments = LogitMoments(columns)
    moments.add(torch.randn(50, columns, generator=torch.Generator().manual_seed(stage)))
    return moments


def write_moments(path, stages):
    path.write_text(json.dumps({"stages": [m.to_dict() for m in stages]}))
    return str(path)


def expected_scores(name, logits, *, sigmoid, stage):
    arguments = {"num_images": 100, "strength": 1.5}
    if name == "NORCAL":
        calibration = norcal(COUNTS, gamma=0.6)
    elif name == "FRACAL":
        make = sigmoid_fracal if sigmoid else fracal
        calibration = make(COUNTS, DIMENSIONS, **arguments)
    else:
        moments = moments_of(stage, logits.shape[1])
        calibration = logn(moments.mean[:NUM_CLASSES], moments.variance[:NUM_CLASSES])
    found = calibration(logits, background=not sigmoid)
    if not sigmoid:
        return found.softmax(dim=1)
    return torch.cat([found.sigmoid(), torch.zeros(len(found), 1)], dim=1)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("loss", ["softmax_ce", "sigmoid_ce"])
@pytest.mark.parametrize("name", ["NORCAL", "FRACAL", "LOGN"])
def test_box_heads(tmp_path, kind, loss, name):
    sigmoid = loss == "sigmoid_ce"
    columns = NUM_CLASSES + (not sigmoid)
    stages = [moments_of(stage, columns) for stage in range(3 if kind == "cascade" else 1)]
    value = {"NORCAL": 0.6, "FRACAL": 1.5, "LOGN": write_moments(tmp_path / "m.json", stages)}[name]
    cfg = small_config(kind, LT_DET__LOSS=loss)
    cfg.LT_DET.POST_HOC[name] = value
    if name == "NORCAL" and sigmoid:
        with pytest.raises(ValueError, match=r"LT_DET.POST_HOC.NORCAL divides.*LOGIT_ADJUSTMENT"):
            small_model(cfg)
        return
    model = small_model(cfg).eval()
    for stage, predictor in enumerate(box_predictors(model)):
        predictor.post_hoc.bind(COUNTS, num_images=100, dimensions=DIMENSIONS)
        features = torch.randn(7, predictor.cls_score.in_features)
        proposals = small_batch()[0]["instances"][[0] * 7]
        with torch.no_grad():
            logits, deltas = predictor(features)
            (scores,) = predictor.predict_probs((logits, deltas), [proposals])
        expected = expected_scores(name, logits, sigmoid=sigmoid, stage=stage)
        torch.testing.assert_close(scores, expected)
        plain = logits.sigmoid() if sigmoid else logits.softmax(dim=1)
        assert not torch.allclose(scores[:, :NUM_CLASSES], plain[:, :NUM_CLASSES])


def test_tau_norm_and_another_are_one_map():
    linear = torch.nn.Linear(5, NUM_CLASSES + 1)
    correction = PostHocCorrection(tau_norm=0.5, norcal=0.6, class_counts=COUNTS)
    (found,) = correction.calibrations(linear, num_classes=NUM_CLASSES)
    first = tau_norm(linear, num_classes=NUM_CLASSES, tau=0.5)
    expected = first.then(norcal(COUNTS, gamma=0.6))
    assert isinstance(found, Affine)
    assert torch.equal(found.scale, expected.scale)
    assert torch.equal(found.shift, expected.shift)
    logits = linear(torch.randn(3, 5)).detach()
    torch.testing.assert_close(
        correction(logits, linear, background=True), expected(logits, background=True)
    )
    sigmoid = PostHocCorrection(tau_norm=0.5, fracal=2.0, kind="sigmoid")
    sigmoid.bind(COUNTS, num_images=100, dimensions=DIMENSIONS)
    parts = sigmoid.calibrations(linear, num_classes=NUM_CLASSES)
    assert [type(part).__name__ for part in parts] == ["Affine", "ProductOfSigmoids"]


def test_counts_that_come_later_count():
    correction = PostHocCorrection(norcal=1.0, class_counts=torch.ones(3))
    logits = torch.zeros(1, 3)
    assert torch.equal(correction(logits, torch.nn.Identity(), background=False), logits)
    correction.bind(torch.tensor([1.0, 1.0, torch.e]))
    found = correction(logits, torch.nn.Identity(), background=False)
    assert found[0].tolist() == pytest.approx([0.0, 0.0, -1.0])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"LOGIT_ADJUSTMENT": 1.0, "NORCAL": 0.6}, "LOGIT_ADJUSTMENT and .*NORCAL correct for the"),
        ({"FRACAL": 2.0, "NORCAL": 0.6}, "POST_HOC.NORCAL and LT_DET.POST_HOC.FRACAL correct"),
        ({"NORCAL_COUNTS": "effective"}, "NORCAL_COUNTS 'effective' would do nothing"),
        ({"NORCAL": 0.5, "NORCAL_COUNTS": "cb"}, "'power' or 'effective', got 'cb'"),
        ({"NORCAL": 1.5, "NORCAL_COUNTS": "effective"}, "must be below 1"),
        ({"NORCAL": -1.0}, "LT_DET.POST_HOC.NORCAL must be at least 0, got -1"),
        ({"FRACAL": -1.0}, "LT_DET.POST_HOC.FRACAL must be at least 0, got -1"),
        ({"LOGN": "MOMENTS", "TAU_NORM": 1.0}, "LOGN has the moments of the logits without"),
        ({"LOGN": "NONE"}, "LT_DET.POST_HOC.LOGN: .* is no file of lt-det logit-moments"),
    ],
)
def test_keys_that_exclude_each_other(tmp_path, keys, message):
    cfg = small_config("standard", LT_DET__LOSS="softmax_ce")
    files = {"MOMENTS": write_moments(tmp_path / "m.json", [moments_of(0, NUM_CLASSES + 1)])}
    (tmp_path / "none.json").write_text("[]")
    files["NONE"] = str(tmp_path / "none.json")
    for key, value in keys.items():
        cfg.LT_DET.POST_HOC[key] = files.get(value, value)
    with pytest.raises(ValueError, match=message):
        build_post_hoc(cfg)


def test_files_and_tasks_that_do_not_go(tmp_path):
    cfg = small_config("standard", LT_DET__LOSS="softmax_ce")
    cfg.LT_DET.POST_HOC.LOGN = "nowhere.json"
    with pytest.raises(FileNotFoundError, match="POST_HOC.LOGN: no file 'nowhere.json'"):
        build_post_hoc(cfg)
    cfg = small_config("cascade", LT_DET__LOSS="softmax_ce")
    cfg.LT_DET.POST_HOC.LOGN = write_moments(tmp_path / "m.json", [moments_of(0, NUM_CLASSES + 1)])
    model = small_model(cfg).eval()
    with pytest.raises(ValueError, match="stage 1 of the model has 6 classes: collect those"):
        model([{"image": torch.zeros(3, 64, 64)}])
    cfg = digits_config(tmp_path, "LT_DET.POST_HOC.FRACAL", 2.0)
    with pytest.raises(ValueError, match="images to classify have none"):
        build_post_hoc(cfg)
    cfg = small_config("standard", LT_DET__LOSS="softmax_ce")
    cfg.LT_DET.POST_HOC.FRACAL, cfg.LT_DET.CLASS_STATS.UNIT = 2.0, "instance"
    with pytest.raises(ValueError, match="set LT_DET.CLASS_STATS.UNIT image"):
        build_post_hoc(cfg)
    with pytest.raises(RuntimeError, match="needs the fractal dimensions"):
        PostHocCorrection(fracal=2.0, class_counts=COUNTS).prepare(num_classes=NUM_CLASSES)


def test_a_pipe_is_no_file_of_logit_moments(tmp_path):
    path = str(tmp_path / "m.json")
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"LOGN: .*m.json is a named pipe: expected a regular"):
        read_logit_moments(path)
