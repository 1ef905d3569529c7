"""Losses in a box head: the background is the frequent class, without bonus or halt."""

from __future__ import annotations

import pytest
import torch

from lt_det.losses import softmax_ce_loss, softmax_eureka_loss, softmax_halted_focal_loss
from lt_det.losses.criterion import Criterion
from lt_det.losses.deferred import DeferredCriterion
from lt_det.losses.focal import softmax_focal_loss
from lt_det.modeling.roi.box_predictor import SoftmaxOutputLayers

COUNTS = torch.tensor([900.0, 30.0, 2.0, 500.0], dtype=torch.float64)
LABELS = torch.tensor([0, 2, 3])
LOGITS = 4 * torch.eye(4, dtype=torch.float64)[LABELS]  # all right and sure


def test_background_has_no_bonus_and_no_part_in_the_weights():
    keys = {"class_counts": COUNTS, "beta": 0.9}
    loss = softmax_eureka_loss(LOGITS, LABELS, background=True, **keys)
    torch.testing.assert_close(loss[2], softmax_ce_loss(LOGITS, LABELS)[2])
    assert (loss[:2] < 0).all()
    # The bonus of a foreground class is that of a table of three classes.
    ce = softmax_ce_loss(LOGITS, LABELS)
    p = torch.softmax(LOGITS, dim=1)[0, 0]
    frequency = (1 - 0.9 ** COUNTS[:3]) / (1 - 0.9)
    weights = 1 / frequency / (1 / frequency).mean()
    torch.testing.assert_close(loss[:2], ce[:2] + weights[[0, 2]] * torch.log1p(-p))
    assert softmax_eureka_loss(LOGITS, LABELS, **keys)[2] < 0


@pytest.mark.parametrize("tail_fraction", [1.0, 0.4])
def test_background_is_not_halted_nor_ranked(tail_fraction):
    keys = {"class_counts": COUNTS, "tail_fraction": tail_fraction}
    loss = softmax_halted_focal_loss(LOGITS, LABELS, background=True, **keys)
    focal = softmax_focal_loss(LOGITS, LABELS)
    assert loss[2] == focal[2]
    # round(0.4 * 3) is one class, the rarest; with the background it would be round(1.6).
    assert (loss[:2] != focal[:2]).tolist() == [tail_fraction == 1.0, True]
    rare = torch.tensor([1])
    one = softmax_halted_focal_loss(4 * torch.eye(4)[rare], rare, background=True, **keys)
    assert (one < 0) == (tail_fraction == 1.0)


def test_box_predictors_say_that_there_is_a_background():
    criterion = DeferredCriterion(
        Criterion("softmax_ce"),
        Criterion("softmax_eureka", beta=0.0),
        start_iteration=5,
        current_iteration=lambda: None,
    )
    assert criterion(LOGITS, LABELS)[2] < 0
    from detectron2.layers import ShapeSpec
    from detectron2.modeling.box_regression import Box2BoxTransform

    SoftmaxOutputLayers(
        ShapeSpec(channels=2),
        criterion=criterion,
        box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
        num_classes=3,
    )
    expected = softmax_ce_loss(LOGITS, LABELS)[2]
    torch.testing.assert_close(criterion(LOGITS, LABELS)[2], expected)


@pytest.mark.parametrize(
    ("name", "keys"),
    [("halted_focal", {"mode": "pt"}), ("focal", {"alpha": 25.0}), ("eureka", {"bonus": "x"})],
)
def test_values_out_of_range_are_found_when_the_loss_is_built(name, keys):
    with pytest.raises(ValueError, match=next(iter(keys))):
        Criterion(name, **keys)
