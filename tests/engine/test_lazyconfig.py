"""Detectron2's LazyConfig: our heads by keyword, without a yaml key."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.utils.events import EventStorage

from lt_det.losses.criterion import Criterion
from lt_det.modeling.patching import patch
from lt_det.modeling.roi.box_predictor import SigmoidOutputLayers, SoftmaxOutputLayers
from lt_det.modeling.roi.roi_heads import (
    LongTailCascadeROIHeads,
    LongTailROIHeads,
    box_predictors,
)
from tests.modeling.small_models import NUM_CLASSES, small_batch, small_config, small_model

COUNTS = [90.0, 50.0, 20.0, 5.0, 2.0, 1.0]


def lazy_predictor(loss: str, *, agnostic: bool = False, weights=(10.0, 10.0, 5.0, 5.0)):
    softmax = "softmax" in loss
    counts = [*COUNTS, 28.0] if softmax else COUNTS
    return L(SoftmaxOutputLayers if softmax else SigmoidOutputLayers)(
        input_shape=L(ShapeSpec)(channels=32, width=1, height=1),
        box2box_transform=L(Box2BoxTransform)(weights=weights),
        num_classes=NUM_CLASSES,
        cls_agnostic_bbox_reg=agnostic,
        criterion=L(Criterion)(name=loss, class_counts=counts, num_images=100),
    )


def train(model) -> dict:
    torch.manual_seed(1)
    model.train()
    with EventStorage():
        losses = model(small_batch())
    sum(losses.values()).backward()
    return losses


@pytest.mark.parametrize("loss", ["softmax_ce", "balanced_softmax", "balanced_sigmoid"])
def test_predictor_from_a_lazy_call(loss, tmp_path):
    lazy = lazy_predictor(loss)
    LazyConfig.save(lazy, str(tmp_path / "predictor.yaml"))
    lazy = LazyConfig.load(str(tmp_path / "predictor.yaml"))
    lazy = LazyConfig.apply_overrides(lazy, ["num_classes=6", "criterion.num_images=99"])
    predictor = instantiate(lazy)
    assert predictor.cls_score.out_features == NUM_CLASSES + ("softmax" in loss)

    # In place of a stock model's: a training step with gradients, and detections.
    model = small_model(small_config(ours=False))
    model.roi_heads.box_predictor = predictor
    losses = train(model)
    assert torch.isfinite(losses["loss_cls"])
    assert predictor.cls_score.weight.grad.abs().sum() > 0
    model.eval()
    with torch.no_grad():
        assert all(len(r["instances"]) > 0 for r in model(small_batch()))


def keywords(heads) -> dict:
    """What a LazyConfig would name; the parts are those of a stock model."""
    return {
        "box_in_features": heads.box_in_features,
        "box_pooler": heads.box_pooler,
        "box_head": heads.box_head,
        "num_classes": heads.num_classes,
        "batch_size_per_image": heads.batch_size_per_image,
        "positive_fraction": heads.positive_fraction,
    }


def test_heads_by_keyword():
    model = small_model(small_config(ours=False))
    stock = model.roi_heads
    lazy = L(LongTailROIHeads)(
        box_predictor=lazy_predictor("balanced_softmax"), proposal_matcher=None
    )
    parts = {**keywords(stock), "proposal_matcher": stock.proposal_matcher}
    predictor = instantiate(lazy.box_predictor)
    model.roi_heads = LongTailROIHeads(**parts, box_predictor=predictor)
    losses = train(model)
    assert {"loss_cls", "loss_box_reg"} <= set(losses)
    assert list(box_predictors(model)) == [predictor]


def test_cascade_by_keyword_takes_a_list():
    model = small_model(small_config("cascade", ours=False))
    stock = model.roi_heads
    weights = [(10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0)]
    predictors = [
        instantiate(lazy_predictor("balanced_sigmoid", agnostic=True, weights=w)) for w in weights
    ]
    parts = keywords(stock)
    parts.update(
        box_heads=list(stock.box_head),
        box_predictors=predictors,
        proposal_matchers=stock.proposal_matchers,
    )
    del parts["box_head"]
    model.roi_heads = LongTailCascadeROIHeads(**parts)
    losses = train(model)
    assert {f"loss_cls_stage{i}" for i in range(3)} <= set(losses)
    assert list(box_predictors(model)) == predictors


def test_zoo_style_lazy_model_gets_another_loss():
    """A whole model out of a LazyCall, then one line."""
    lazy = L(small_model)(cfg=small_config(ours=False))
    criterion = instantiate(L(Criterion)(name="balanced_softmax", class_counts=COUNTS))
    model = patch(instantiate(lazy), criterion)
    assert torch.isfinite(train(model)["loss_cls"])


def test_counts_are_checked_where_they_are_named():
    for bad in ([1.0, 0.0], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="class_counts"):
            instantiate(L(Criterion)(name="balanced_sigmoid", class_counts=bad, num_images=9))
