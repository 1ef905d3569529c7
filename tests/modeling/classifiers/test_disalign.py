"""DisAlign: its formula, its start, what learns, what cannot be done with it."""

from __future__ import annotations

import math

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from lt_det.engine.checkpoint import LongTailCheckpointer
from lt_det.engine.startup.config_checks import check_config
from lt_det.engine.weights_fit import check_start
from lt_det.modeling.calibration import Affine, fold_into_weights, tau_norm
from lt_det.modeling.classifiers.decoupled import freeze_all_but_classifier
from lt_det.modeling.classifiers.disalign import DisAlignClassifier
from lt_det.modeling.classifiers.layers import CosineClassifier, ScaledClassifier
from lt_det.modeling.roi.roi_heads import box_predictors
from tests.losses.golden import golden_logits
from tests.modeling.small_models import NUM_CLASSES, small_batch, small_config, small_model

DISALIGN = {"LT_DET__CLASSIFIER__DISALIGN": True}


def test_equals_the_golden_numbers():
    """The classifier is the identity, so that its features are the logits."""
    linear = nn.Linear(5, 5).double()
    with torch.no_grad():
        linear.weight.copy_(torch.eye(5))
        linear.bias.zero_()
    layer = DisAlignClassifier(linear, num_classes=4).double()
    with torch.no_grad():
        layer.class_scale.copy_(torch.tensor([1.1, 0.9, 1.3, 1.0], dtype=torch.float64))
        layer.class_shift.copy_(torch.tensor([0.2, -0.1, 0.0, 0.5], dtype=torch.float64))
        layer.confidence.weight.zero_()
        layer.confidence.bias.fill_(0.3)
    expected = [-1.206916811, -0.528722126, 0.293083189, 1.287221258, -1.0]
    assert layer(golden_logits(5)[:1])[0].tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("cosine", [False, True])
def test_equals_the_scalar_formula_and_the_rest_is_left(cosine):
    base: nn.Module = nn.Linear(3, 4).double()
    if cosine:
        base = CosineClassifier(base, scale=7.0)
    layer = DisAlignClassifier(base, num_classes=2).double()
    for parameter in (layer.class_scale, layer.class_shift, *layer.confidence.parameters()):
        nn.init.normal_(parameter)
    x = torch.randn(5, 3, dtype=torch.float64)
    plain, found = base(x), layer(x)
    s, b = layer.class_scale.tolist(), layer.class_shift.tolist()
    for r in range(5):
        v, d = layer.confidence.weight[0].tolist(), float(layer.confidence.bias)
        kappa = 1 / (1 + math.exp(-(sum(p * q for p, q in zip(v, x[r].tolist())) + d)))
        for c in range(2):
            z = float(plain[r, c])
            expected = kappa * (s[c] * z + b[c]) + (1 - kappa) * z
            assert float(found[r, c]) == pytest.approx(expected)
        assert torch.equal(found[r, 2:], plain[r, 2:])


def test_starts_as_the_classifier_and_learns_its_calibration_alone():
    base = nn.Linear(3, 4)
    layer = DisAlignClassifier(base, num_classes=3)
    x = torch.randn(6, 3)
    assert torch.equal(layer(x), base(x))
    layer(x).square().sum().backward()
    with_gradient = {name for name, p in layer.named_parameters() if p.grad is not None}
    assert with_gradient == {"class_scale", "class_shift", "confidence.weight", "confidence.bias"}
    state = {"weight": torch.ones(4, 3), "bias": torch.zeros(4)}
    assert not layer.load_state_dict(state).missing_keys
    torch.testing.assert_close(layer(x)[:, 3], x.sum(dim=1))


@pytest.mark.parametrize("loss", ["softmax_ce", "balanced_sigmoid", "bags"])
def test_a_detector_trains_it_on_a_frozen_first_stage(tmp_path, loss):
    stage1 = small_model(small_config(LT_DET__LOSS=loss), seed=1)
    LongTailCheckpointer(stage1, str(tmp_path)).save("stage1")
    model = small_model(small_config(LT_DET__LOSS=loss, **DISALIGN), seed=2)
    checkpointer = LongTailCheckpointer(model, str(tmp_path))
    checkpointer.load(str(tmp_path / "stage1.pth"))
    check_start("stage1.pth", checkpointer, second_stage=True)
    ((head,), (before,)) = box_predictors(model), box_predictors(stage1)
    features = torch.randn(4, head.cls_score.in_features)
    assert torch.equal(head.cls_score(features), before.cls_score(features))
    freeze_all_but_classifier(model).train()
    counts = torch.arange(1.0, NUM_CLASSES + 1, dtype=torch.float64)
    head.criterion.bind(counts, 100)
    with EventStorage():
        sum(model(small_batch()).values()).backward()
    learned = {
        name.partition("cls_score.")[2] for name, p in model.named_parameters() if p.requires_grad
    }
    assert learned == {"class_scale", "class_shift", "confidence.weight", "confidence.bias"}
    assert head.cls_score.class_shift.grad.abs().sum() > 0


def test_it_cannot_be_folded_nor_normalised_nor_put_on_another_layer():
    layer = DisAlignClassifier(nn.Linear(3, 4), num_classes=3)
    with pytest.raises(TypeError, match="DisAlign .* no affine map .* cannot be folded"):
        fold_into_weights(layer, Affine.identity(3), background=True)
    with pytest.raises(TypeError, match="DisAlignClassifier is no linear classifier"):
        tau_norm(layer, num_classes=3, tau=1.0)
    with pytest.raises(TypeError, match="a linear or a cosine classifier, got a ScaledClassifier"):
        DisAlignClassifier(ScaledClassifier(nn.Linear(3, 4)), num_classes=3)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, "DISALIGN calibrates the frozen classifier .*DECOUPLED True"),
        ({"LT_DET__DECOUPLED": True, "LT_DET__RESET_CLASSIFIER": True}, "RESET_CLASSIFIER False"),
        (
            {"LT_DET__DECOUPLED": True, "LT_DET__CLASSIFIER__NAME": "lws"},
            "a linear or a cosine classifier, got LT_DET.CLASSIFIER.NAME 'lws'",
        ),
    ],
)
def test_a_config_without_a_first_stage_is_refused(keys, text):
    with pytest.raises(ValueError, match=text):
        check_config(small_config(DATASETS__TRAIN=("x",), **DISALIGN, **keys))
