"""Defaults of config keys are those of the functions that take them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from detectron2.config import get_cfg

from lt_det.config import add_lt_det_config
from lt_det.data.images.datasets import register_image_dataset
from lt_det.data.stats.frequency_groups import FEW_MAX, MEDIUM_MAX
from lt_det.evaluation.classification.metrics import bootstrap_intervals
from lt_det.losses.class_weights import ClassWeights
from lt_det.meta.meta_reweighter import MetaReweighter
from lt_det.meta.meta_sampler import MetaSampler
from lt_det.modeling.backbones.cifar_resnet import CifarResNet
from lt_det.modeling.classifiers.layers import CosineClassifier
from lt_det.modeling.classifiers.posthoc import PostHocCorrection
from lt_det.modeling.dense.retinanet import LongTailRetinaNet
from lt_det.modeling.roi.box_predictor import LongTailOutputLayers, SigmoidOutputLayers
from lt_det.modeling.roi.box_regression import ByClassBoxRegression

#: Function and argument -> key below LT_DET, where it is not the argument in capitals.
TAKEN_BY = [
    ("CLASS_WEIGHTS", ClassWeights, ["beta", "normalisation", "denominator", "power", "values"]),
    ("", SigmoidOutputLayers.__init__, ["prior_prob"]),
    ("", LongTailOutputLayers.__init__, ["fast_inference"]),
    ("CLASSIFIER", CosineClassifier, ["scale"]),
    (
        "POST_HOC",
        PostHocCorrection,
        ["tau_norm", "logit_adjustment", "norcal", "norcal_counts", "fracal"],
    ),
    ("", ByClassBoxRegression.__init__, ["fast_box_regression"]),
    ("RETINANET", LongTailRetinaNet.__init__, ["normalizer"]),
    ("META", MetaSampler, ["estimator", "temperature", "init_power"]),
    ("META", MetaReweighter, ["lr", "betas", "inner_step"]),
    ("EVAL", bootstrap_intervals, ["confidence"]),
    ("CLASSIFICATION", register_image_dataset, ["imbalance_factor", "held_out"]),
    ("CLASSIFICATION.SUBSET_SEED", register_image_dataset, ["seed"]),
    ("CIFAR_RESNET", CifarResNet, ["depth", "width", "stem_stride"]),
]


def value_of(key: str) -> Any:
    cfg = get_cfg()
    add_lt_det_config(cfg)
    node: Any = cfg.LT_DET
    for part in key.strip(".").split("."):
        node = node[part]
    return node


@pytest.mark.parametrize(
    ("place", "function", "argument"), [(p, f, a) for p, f, some in TAKEN_BY for a in some]
)
def test_defaults_are_those_of_the_signatures(place, function, argument):
    default = inspect.signature(inspect.unwrap(function)).parameters[argument].default
    whole = place.rpartition(".")[2] in {"NAME", "SCALE", "SUBSET_SEED"}
    found = value_of(place if whole else f"{place}.{argument.upper()}")
    assert found == (list(default) if isinstance(default, tuple) else default)
    assert type(found) is (list if isinstance(default, tuple) else type(default))


def test_limits_of_the_groups_of_images():
    assert value_of("CLASSIFICATION.FEW_MAX") == FEW_MAX
    assert value_of("CLASSIFICATION.MEDIUM_MAX") == MEDIUM_MAX
