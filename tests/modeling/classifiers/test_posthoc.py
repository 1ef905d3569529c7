"""tau-normalisation and logit adjustment of trained classifiers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from lt_det.data.warn_once import warn_once
from lt_det.engine.checkpoint import ClassStatsState, LongTailCheckpointer
from lt_det.engine.evaluated_model import load_evaluated_model
from lt_det.engine.trainer import LongTailTrainer
from lt_det.engine.training_model import bind_class_stats
from lt_det.modeling.calibration import logit_adjustment, tau_norm
from lt_det.modeling.classifiers.layers import CosineClassifier, ScaledClassifier
from lt_det.modeling.classifiers.posthoc import PostHocCorrection
from lt_det.modeling.roi.roi_heads import box_predictors
from lt_det.tasks import build_class_stats
from tests.engine.digits import digits_config
from tests.engine.tiny import tiny_config
from tests.modeling.classifiers.test_image_classifier import batch_of
from tests.modeling.small_models import (
    HEADS,
    NUM_CLASSES,
    as_retinanet,
    small_batch,
    small_config,
    small_model,
)
from tests.reference.classification import softmax, tau_normalised_logits

COUNTS = torch.tensor([90.0, 50.0, 20.0, 5.0, 2.0, 1.0], dtype=torch.float64)
TAU = "LT_DET.POST_HOC.TAU_NORM"
ADJUST = "LT_DET.POST_HOC.LOGIT_ADJUSTMENT"


def tau_normalised(logits, classifier, *, tau):
    calibration = tau_norm(classifier, num_classes=logits.shape[1], tau=tau)
    return calibration(logits, background=False)


def prior_adjusted(logits, counts, *, tau):
    return logit_adjustment(counts, tau=tau)(logits, background=False)


def classifier_of(num_columns=4, *, seed=0):
    torch.manual_seed(seed)
    linear = nn.Linear(5, num_columns)
    with torch.no_grad():
        linear.weight *= torch.linspace(0.5, 3.0, num_columns)[:, None]
    return linear


@pytest.mark.parametrize("tau", [0.3, 1.0, 2.0])
def test_tau_normalisation_against_scalars(tau):
    linear, features = classifier_of(), torch.randn(50, 5)
    found = tau_normalised(linear(features), linear, tau=tau).tolist()
    rows = linear.weight.tolist()
    mean_norm = sum(math.hypot(*row) for row in rows) / len(rows)
    mean_bias = sum(linear.bias.tolist()) / len(rows)
    for logits, feature in zip(found, features.tolist()):
        paper = tau_normalised_logits(rows, feature, tau)
        # Theirs times one number, plus one number: the same prediction.
        assert max(range(4), key=paper.__getitem__) == max(range(4), key=logits.__getitem__)
        expected = [mean_norm**tau * z + mean_bias for z in paper]
        assert logits == pytest.approx(expected, abs=1e-5)


def test_learned_factors_are_part_of_the_weights():
    linear = classifier_of()
    scaled = ScaledClassifier(nn.Linear(5, 4))
    scaled.load_state_dict({**linear.state_dict(), "class_scale": torch.tensor([1.0, 3, 0.2, 2])})
    plain = nn.Linear(5, 4)
    with torch.no_grad():
        plain.weight.copy_(scaled.class_scale[:, None] * linear.weight)
        plain.bias.copy_(scaled.class_scale * linear.bias)
    features = torch.randn(9, 5)
    torch.testing.assert_close(
        tau_normalised(scaled(features), scaled, tau=0.7),
        tau_normalised(plain(features), plain, tau=0.7),
    )


def test_weights_without_a_direction_and_other_classifiers():
    linear = classifier_of()
    nn.init.zeros_(linear.weight[1])
    found = tau_normalised(linear(torch.randn(3, 5)), linear, tau=1.0)
    assert found.isfinite().all()
    torch.testing.assert_close(found[:, 1], linear.bias.mean().expand(3))
    nn.init.zeros_(linear.weight)
    found = tau_normalised(linear(torch.randn(3, 5)), linear, tau=1.0)
    torch.testing.assert_close(found, linear.bias.mean().expand(3, 4))
    no_bias = nn.Linear(5, 4, bias=False)
    assert tau_normalised(no_bias(torch.randn(3, 5)), no_bias, tau=1.0).shape == (3, 4)
    with pytest.raises(TypeError, match="CosineClassifier is no linear classifier"):
        tau_normalised(torch.zeros(1, 4), CosineClassifier(linear), tau=1.0)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [0.0, 1e-30])
def test_rounding_of_a_row_without_direction_is_not_magnified(tau, dtype, size):
    """Biases of half-precision logits are rounded, and those of the classifier are not."""
    torch.manual_seed(0)
    linear, features = nn.Linear(64, 5), torch.randn(6, 64)
    with torch.no_grad():
        linear.weight *= 25 / linear.weight.norm(dim=1, keepdim=True)
        linear.weight[2] *= size
    logits = linear(features).to(dtype).float()
    found = tau_normalised(logits, linear, tau=tau)
    assert found.abs().max() < 250
    torch.testing.assert_close(found[:, 2], linear.bias.mean().expand(6))


def test_a_learned_factor_of_zero():
    linear = classifier_of()
    scaled = ScaledClassifier(nn.Linear(5, 4))
    scaled.load_state_dict({**linear.state_dict(), "class_scale": torch.tensor([30.0, 0, 20, 2])})
    found = tau_normalised(scaled(torch.randn(3, 5)), scaled, tau=1.0)
    mean = (scaled.class_scale * linear.bias).mean()
    torch.testing.assert_close(found[:, 1], mean.expand(3).detach())
    assert found.isfinite().all()


def test_adjusted_cross_entropy_is_the_posterior_under_equal_priors():
    """By Bayes' rule from densities: a classifier of p(k | x) under pi becomes that under 1 / K."""
    densities = torch.rand(20, 6).double() + 0.01  # p(x | k)
    prior = COUNTS / COUNTS.sum()
    joint = densities * prior
    trained = (joint / joint.sum(dim=1, keepdim=True)).log()  # what cross-entropy converges to
    found = prior_adjusted(trained, COUNTS, tau=1.0).tolist()
    for logits, density in zip(found, densities.tolist()):
        expected = [p / sum(density) for p in density]
        assert softmax(logits) == pytest.approx(expected)
    # The constant: equal counts change nothing, so nothing moves against a background.
    equal = prior_adjusted(trained, torch.full((6,), 7.0), tau=1.3)
    torch.testing.assert_close(equal, trained)
    half = prior_adjusted(trained, COUNTS, tau=0.5)
    once = prior_adjusted(trained, COUNTS, tau=1.0)
    torch.testing.assert_close(half, (trained + once) / 2)


def test_arguments_that_make_no_sense():
    for name in ("tau_norm", "logit_adjustment", "norcal", "fracal"):
        with pytest.raises(ValueError, match=rf"{name} must be at least 0"):
            PostHocCorrection(**{name: -0.1})
        with pytest.raises(ValueError, match="must be at least 0"):
            PostHocCorrection(**{name: math.nan})
    with pytest.raises(ValueError, match="of 5 classes and the classifier has 6"):
        PostHocCorrection(logit_adjustment=1.0, class_counts=torch.ones(5))(
            torch.zeros(1, 6), classifier_of(), background=False
        )
    with pytest.raises(RuntimeError, match="need class counts"):
        PostHocCorrection(logit_adjustment=1.0)(
            torch.zeros(1, 4), classifier_of(), background=False
        )


def image_outputs(folder, *options, state=None):
    model = build_model(digits_config(folder, *options))
    if state is not None:
        model.load_state_dict(state)
    with torch.no_grad():
        outputs = model.eval()(batch_of(8))
    return model, torch.stack([output["logits"] for output in outputs])


def test_image_classifier_from_the_config(tmp_path):
    torch.manual_seed(0)
    model, plain = image_outputs(tmp_path)
    state = model.state_dict()
    off, same = image_outputs(tmp_path, TAU, 0.0, ADJUST, 0.0, state=state)
    assert torch.equal(same, plain)
    assert off.post_hoc is None
    corrected, found = image_outputs(tmp_path, TAU, 0.5, ADJUST, 1.5, state=state)
    counts, _ = corrected.post_hoc._load_counts()
    assert counts[0] / counts[-1] > 19
    expected = tau_normalised(plain, model.cls_score, tau=0.5)
    expected = expected - 1.5 * (counts / counts.mean()).log().float()
    torch.testing.assert_close(found, expected)
    assert list(corrected.state_dict()) == list(state)
    # Training is not touched.
    losses = [m.train()(batch_of(8))["loss_cls"] for m in (model, corrected)]
    assert torch.equal(*losses)


def test_counts_are_those_of_the_checkpoint(tmp_path):
    """They decide, not the training set of the config, which may be another one or not there."""
    trained = digits_config(tmp_path)
    stats = build_class_stats(trained)
    counts = stats.image_counts[::-1]
    stats = replace(stats, image_counts=counts, instance_counts=counts)
    saver = LongTailCheckpointer(
        build_model(trained), trained.OUTPUT_DIR, class_stats=ClassStatsState(stats)
    )
    saver.save("model_final")
    weights = f"{trained.OUTPUT_DIR}/model_final.pth"
    cfg = digits_config(tmp_path, ADJUST, 1.0, "MODEL.WEIGHTS", weights)
    model = build_model(cfg)
    load_evaluated_model(cfg, model, resume=False)
    with torch.no_grad():
        found = torch.stack([output["logits"] for output in model.eval()(batch_of(8))])
        plain = model.logits(model.images(batch_of(8)))
    expected = prior_adjusted(plain, torch.tensor(stats.image_counts), tau=1.0)
    torch.testing.assert_close(found, expected)


def test_class_stats_reach_a_correction_that_was_put_in_by_hand(tmp_path):
    cfg = digits_config(tmp_path)
    model, stats = build_model(cfg).eval(), build_class_stats(cfg)
    model.post_hoc = PostHocCorrection(logit_adjustment=1.0)
    bind_class_stats(model, stats, unit="image")
    logits = torch.randn(3, 10)
    expected = prior_adjusted(logits, torch.tensor(stats.image_counts), tau=1.0)
    torch.testing.assert_close(model.inference_logits(logits), expected)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("loss", ["softmax_ce", "sigmoid_ce"])
def test_box_heads_change_the_foreground_only(kind, loss):
    torch.manual_seed(0)
    model = small_model(small_config(kind, LT_DET__LOSS=loss)).eval()
    keys = {TAU.replace(".", "__"): 1.0, ADJUST.replace(".", "__"): 0.5}
    corrected = small_model(small_config(kind, LT_DET__LOSS=loss, **keys)).eval()
    corrected.load_state_dict(model.state_dict())
    for plain, ours in zip(box_predictors(model), box_predictors(corrected)):
        ours.post_hoc.bind(COUNTS)
        with torch.no_grad():
            plain.cls_score.weight *= torch.linspace(1, 9, len(plain.cls_score.weight))[:, None]
            ours.load_state_dict(plain.state_dict())
        features = torch.randn(7, plain.cls_score.in_features)
        proposals = small_batch()[0]["instances"][[0] * 7]
        with torch.no_grad():
            logits, deltas = plain.eval()(features)
            (scores,) = ours.predict_probs((logits, deltas), [proposals])
        foreground = logits[:, :NUM_CLASSES]
        foreground = tau_normalised(foreground, plain.cls_score, tau=1.0)
        foreground = foreground - 0.5 * (COUNTS / COUNTS.mean()).log().float()
        if loss == "softmax_ce":
            expected = torch.cat([foreground, logits[:, -1:]], dim=1).softmax(dim=1)
        else:
            expected = torch.cat([foreground.sigmoid(), torch.zeros(7, 1)], dim=1)
        torch.testing.assert_close(scores, expected)
    # The detections are those of the corrected scores.
    with torch.no_grad():
        before, after = (m(small_batch())[0]["instances"] for m in (model, corrected))
    assert len(after) > 0
    assert not torch.equal(before.scores, after.scores[: len(before)])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("LT_DET.LOSS", "balanced_softmax"), "LT_DET.LOSS 'balanced_softmax' takes out"),
        (("LT_DET.SAMPLER.NAME", "class_balanced"), "LT_DET.SAMPLER.NAME 'class_balanced' takes"),
        (
            ("LT_DET.DEFER.SAMPLER", "effective_number", "LT_DET.DEFER.START_ITER", 1),
            "LT_DET.DEFER.SAMPLER 'effective_number' takes",
        ),
        (("LT_DET.CLASS_WEIGHTS.NAME", "inverse_frequency"), "CLASS_WEIGHTS.NAME 'inverse_freq"),
        (("LT_DET.SAMPLER.NAME", "instance"), ""),
        ((), ""),
    ],
)
def test_a_prior_that_training_took_out_already_is_warned_of(tmp_path, caplog, options, named):
    warn_once.cache_clear()
    build_model(digits_config(tmp_path, TAU, 0.5, *options))
    assert "corrected for twice" not in caplog.text
    build_model(digits_config(tmp_path, ADJUST, 1.0, *options))
    assert named in caplog.text
    assert ("rare classes are corrected for twice" in caplog.text) == bool(named)


def test_keys_that_would_do_nothing(tmp_path):
    with pytest.raises(ValueError, match="TAU_NORM would do nothing to .*'cosine'"):
        build_model(digits_config(tmp_path, TAU, 0.5, "LT_DET.CLASSIFIER.NAME", "cosine"))
    cfg = as_retinanet(tiny_config(tmp_path / "out"))
    cfg.LT_DET.POST_HOC.TAU_NORM = 0.5
    with pytest.raises(ValueError, match="TAU_NORM would do nothing to LongTailRetinaNet"):
        LongTailTrainer(cfg)
