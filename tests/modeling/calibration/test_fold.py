"""Calibrations folded into weights, in layers and in plain Detectron2."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lt_det.modeling.calibration import (
    Affine,
    fold_into_weights,
    fracal,
    logit_adjustment,
    logn,
    norcal,
    sigmoid_fracal,
    tau_norm,
)
from lt_det.modeling.classifiers.layers import CosineClassifier, ScaledClassifier
from tests.modeling.small_models import HEADS, NUM_CLASSES, small_batch, small_config, small_model
from tests.processes import run_python

COUNTS = torch.tensor([90.0, 50.0, 20.0, 5.0, 2.0, 1.0])
DIMENSIONS = torch.linspace(1, 2, NUM_CLASSES)
MEAN, VARIANCE = torch.linspace(-4, 1, NUM_CLASSES), torch.linspace(0.2, 3, NUM_CLASSES)


def affine_of(name, classifier):
    return {
        "tau_norm": lambda: tau_norm(classifier, num_classes=NUM_CLASSES, tau=0.7),
        "logit_adjustment": lambda: logit_adjustment(COUNTS, tau=1.0),
        "norcal": lambda: norcal(COUNTS, gamma=0.6),
        "fracal": lambda: fracal(COUNTS, DIMENSIONS, num_images=100),
        "logn": lambda: logn(MEAN, VARIANCE),
    }[name]()


NAMES = ["tau_norm", "logit_adjustment", "norcal", "fracal", "logn"]


def linear_of(rows, *, bias=True):
    torch.manual_seed(0)
    linear = nn.Linear(8, rows, bias=bias)
    with torch.no_grad():
        linear.weight *= torch.linspace(0.5, 3.0, rows)[:, None]
    return linear


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("kind", ["linear", "lws"])
def test_a_folded_classifier_gives_the_calibrated_logits(name, background, kind):
    classifier = linear_of(NUM_CLASSES + background)
    if kind == "lws":
        classifier = ScaledClassifier(classifier)
        with torch.no_grad():
            classifier.class_scale.uniform_(0.5, 2.0)
    features = torch.randn(20, 8)
    affine = affine_of(name, classifier)
    with torch.no_grad():
        expected = affine(classifier(features), background=background)
        fold_into_weights(classifier, affine, background=background)
        torch.testing.assert_close(classifier(features), expected, rtol=1e-5, atol=1e-5)
        # The fold is not the identity, and not undone by a second call.
        fold_into_weights(classifier, affine, background=background)
        assert not torch.allclose(classifier(features), expected, atol=1e-2)


def test_channels_of_several_anchors():
    """Channel a * K + k of a dense head is class k of anchor a, as Detectron2 takes it apart."""
    from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K

    conv, affine = nn.Conv2d(8, 3 * NUM_CLASSES, 3, padding=1), logn(MEAN, VARIANCE)
    features = torch.randn(2, 8, 5, 4)
    with torch.no_grad():
        plain = permute_to_N_HWA_K(conv(features), NUM_CLASSES)
        fold_into_weights(conv, affine, background=False)
        folded = permute_to_N_HWA_K(conv(features), NUM_CLASSES)
    expected = affine(plain.flatten(0, 1), background=False).view_as(plain)
    torch.testing.assert_close(folded, expected, rtol=1e-5, atol=1e-5)


def test_a_cosine_classifier_takes_a_shift_only():
    cosine = CosineClassifier(linear_of(NUM_CLASSES + 1))
    features, affine = torch.randn(5, 8), norcal(COUNTS, gamma=0.6)
    with torch.no_grad():
        expected = affine(cosine(features), background=True)
        fold_into_weights(cosine, affine, background=True)
        torch.testing.assert_close(cosine(features), expected)
    with pytest.raises(ValueError, match="cosine classifier has one scale"):
        fold_into_weights(cosine, logn(MEAN, VARIANCE), background=True)


def test_what_cannot_be_folded():
    product = sigmoid_fracal(COUNTS, DIMENSIONS, num_images=100)
    with pytest.raises(TypeError, match="ProductOfSigmoids is not affine"):
        fold_into_weights(linear_of(NUM_CLASSES), product, background=False)
    affine = norcal(COUNTS, gamma=0.6)
    for rows, background in ((NUM_CLASSES, True), (NUM_CLASSES + 1, False), (13, True)):
        with pytest.raises(ValueError, match=r"weight must have 6 rows"):
            fold_into_weights(linear_of(rows), affine, background=background)
    with pytest.raises(ValueError, match="has no bias"):
        fold_into_weights(linear_of(NUM_CLASSES, bias=False), affine, background=False)
    with pytest.raises(TypeError, match="a Identity cannot be folded into"):
        fold_into_weights(nn.Identity(), affine, background=False)
    scaled = ScaledClassifier(linear_of(NUM_CLASSES))
    nn.init.zeros_(scaled.class_scale)
    with pytest.raises(ValueError, match="factor 0 cannot take a shift"):
        fold_into_weights(scaled, affine, background=False)
    # A scale alone needs no bias.
    no_bias = linear_of(NUM_CLASSES, bias=False)
    doubled = Affine(torch.full((NUM_CLASSES,), 2.0), torch.zeros(NUM_CLASSES))
    fold_into_weights(no_bias, doubled, background=False)
    assert torch.equal(no_bias.weight, 2 * linear_of(NUM_CLASSES, bias=False).weight)


PLAIN = """
import pathlib, sys, torch
from detectron2.modeling import build_model
from detectron2.config import CfgNode
for folder in map(pathlib.Path, sys.argv[1:]):
    model = build_model(CfgNode.load_cfg((folder / "config.yaml").read_text())).eval()
    model.load_state_dict(torch.load(folder / "model.pth"))
    with torch.no_grad():
        found = [o["instances"].get_fields() for o in model(torch.load(folder / "batch.pth"))]
    torch.save([{**f, "pred_boxes": f["pred_boxes"].tensor} for f in found], folder / "found.pth")
assert not [name for name in sys.modules if name.split(".")[0] == "lt_det"]
"""
CASES = [("standard", name) for name in NAMES] + [(kind, "tau_norm") for kind in HEADS][1:]


def _detections(folder, kind, name):
    """Write a folded model; return the detections of the plain and the calibrated one."""
    cfg = small_config(kind, ours=False)
    del cfg["LT_DET"]
    cfg.MODEL.MASK_ON = False
    model = small_model(cfg).eval()
    predictors = model.roi_heads.box_predictor
    predictors = predictors if isinstance(predictors, nn.ModuleList) else [predictors]
    for predictor in predictors:  # scores that are worth a calibration
        with torch.no_grad():
            predictor.cls_score.weight *= torch.linspace(5, 60, NUM_CLASSES + 1)[:, None]
    batch = [{k: v for k, v in sample.items() if k != "instances"} for sample in small_batch()]
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save(batch, folder / "batch.pth")
    affines = [affine_of(name, predictor.cls_score) for predictor in predictors]
    calibrated = small_model(cfg).eval()
    calibrated.load_state_dict(model.state_dict())
    _calibrate_at_test(calibrated, affines)
    with torch.no_grad():
        plain, expected = (
            [output["instances"] for output in detector(batch)] for detector in (model, calibrated)
        )
    for predictor, affine in zip(predictors, affines):
        fold_into_weights(predictor.cls_score, affine, background=True)
    torch.save(model.state_dict(), folder / "model.pth")
    return plain, expected


@pytest.fixture(scope="module")
def detections(tmp_path_factory):
    """Of the plain, the calibrated and, in a process without this package, the folded model."""
    folders = {case: tmp_path_factory.mktemp("-".join(case)) for case in CASES}
    ours = {case: _detections(folder, *case) for case, folder in folders.items()}
    result = run_python(PLAIN, *folders.values())
    assert result.returncode == 0, result.stderr
    return {case: (*ours[case], torch.load(folders[case] / "found.pth")) for case in CASES}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_plain_detectron2_gives_the_same_detections(detections, case):
    for before, ours, theirs in zip(*detections[case]):
        assert len(ours) == len(theirs["scores"]) > 0
        torch.testing.assert_close(theirs["scores"], ours.scores, rtol=1e-4, atol=1e-6)
        order, other = (s.argsort(stable=True) for s in (ours.scores, theirs["scores"]))
        assert torch.equal(ours.pred_classes[order], theirs["pred_classes"][other])
        boxes = theirs["pred_boxes"][other]
        torch.testing.assert_close(boxes, ours.pred_boxes.tensor[order], rtol=1e-4, atol=1e-3)
        differs = len(before) != len(ours) or not torch.allclose(before.scores, ours.scores)
        assert differs


def _calibrate_at_test(model, affines):
    predictors = model.roi_heads.box_predictor
    predictors = predictors if isinstance(predictors, nn.ModuleList) else [predictors]
    for predictor, affine in zip(predictors, affines):
        predictor.cls_score.register_forward_hook(
            lambda _m, _i, logits, affine=affine: affine(logits, background=True)
        )
