"""Biases in proportion to class counts, at the start of sigmoid classifiers."""

from __future__ import annotations

import logging

import pytest
import torch

from lt_det.data.annotations.datasets import class_stats_of
from lt_det.modeling.build import build_prior
from lt_det.modeling.classifiers.layers import class_prior_bias, prior_bias
from lt_det.modeling.roi.roi_heads import build_predictor
from tests.engine.tiny import tiny_config
from tests.modeling.roi.test_roi_heads import COUNTS, make_predictor

CLASS_PRIOR = {"LT_DET__LOSS": "sigmoid_ce", "LT_DET__PRIOR": "class"}


def test_scores_are_in_proportion_to_counts_and_keep_the_mean():
    scores = class_prior_bias(COUNTS, prior_prob=0.01).sigmoid()
    torch.testing.assert_close(scores, 0.01 * 6 * COUNTS / 168)
    assert float(scores.mean()) == pytest.approx(0.01)
    equal = class_prior_bias(torch.ones(3), prior_prob=0.01)
    torch.testing.assert_close(equal, torch.full((3,), prior_bias(0.01), dtype=torch.float64))


def test_no_class_starts_above_one_half():
    scores = class_prior_bias(COUNTS, prior_prob=0.3).sigmoid()
    assert scores[:2].tolist() == [0.5, 0.5]
    assert scores[2] < 0.5


@pytest.mark.parametrize("bad", [0.0, 1.0])
def test_wrong_priors_are_named(bad):
    with pytest.raises(ValueError, match="LT_DET.PRIOR_PROB must be in"):
        class_prior_bias(COUNTS, prior_prob=bad)
    with pytest.raises(ValueError, match=r"class ids \[2\]"):
        class_prior_bias(torch.tensor([1.0, 1, 0]), prior_prob=0.1)


def test_head_of_a_config_starts_from_the_training_set(tmp_path):
    cfg = tiny_config(tmp_path, **CLASS_PRIOR)
    counts = torch.from_numpy(class_stats_of(cfg.DATASETS.TRAIN).counts())
    bias = build_predictor(cfg, make_predictor("softmax_ce")).cls_score.bias
    torch.testing.assert_close(bias, class_prior_bias(counts, prior_prob=0.001).float())
    assert float(bias[0]) > float(bias[5])
    cfg.LT_DET.PRIOR = "constant"
    bias = build_predictor(cfg, make_predictor("softmax_ce")).cls_score.bias
    torch.testing.assert_close(bias, torch.full_like(bias, prior_bias(0.001)))


def test_without_the_training_set_the_bias_is_constant(tmp_path, caplog):
    cfg = tiny_config(tmp_path, **CLASS_PRIOR)
    for names in ((), ("no_such_set",)):
        cfg.DATASETS.TRAIN = names
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            prior = build_prior(cfg)
        assert prior == {"prior_prob": 0.001, "prior_counts": None}
        assert "without its training set" in caplog.text
    cfg.LT_DET.PRIOR = "prior"
    with pytest.raises(ValueError, match="LT_DET.PRIOR must be 'constant' or 'class', got 'prior'"):
        build_prior(cfg)


def test_prior_counts_are_an_argument_of_the_predictor():
    predictor = make_predictor("sigmoid_ce", prior_counts=COUNTS)
    expected = class_prior_bias(COUNTS, prior_prob=0.001).float()
    torch.testing.assert_close(predictor.cls_score.bias, expected)
