"""Losses in a box head: the background is the frequent class, without bonus or halt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform

from lt_det.data.stats.class_prior import counts_with_background
from lt_det.losses import (
    ldam_loss,
    softmax_ce_loss,
    softmax_equalization_loss,
    softmax_eureka_loss,
    softmax_halted_focal_loss,
)
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


def test_background_has_no_margin_and_is_not_the_rarest():
    """Its count is the mean of the classes' and says nothing; here it would be the least."""
    counts = torch.tensor([900.0, 30.0, 200.0, 2.0], dtype=torch.float64)
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    keys = {"scale": 4.0, "background": True}
    loss = ldam_loss(logits, torch.tensor([0, 1, 3]), class_counts=counts, **keys)
    for row, (label, margin) in enumerate([(0, 0.5 * (30 / 900) ** 0.25), (1, 0.5), (3, 0.0)]):
        shifted = logits[row].clone()
        shifted[label] -= 4 * margin
        torch.testing.assert_close(loss[row], shifted.logsumexp(dim=0) - shifted[label])


def box_predictor(criterion, *, num_classes):
    return SoftmaxOutputLayers(
        ShapeSpec(channels=2),
        criterion=criterion,
        box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
        num_classes=num_classes,
    )


@pytest.mark.parametrize("num_classes", [100, 400])
def test_background_is_not_spared(num_classes, caplog):
    """Its mean count is a share of 1 / (K + 1), which many classes bring under the threshold."""
    counts = np.full(num_classes, 1000.0)
    counts[1] = 1.0
    criterion = Criterion("softmax_equalization", probability=1.0)
    predictor = box_predictor(criterion, num_classes=num_classes)
    criterion.bind(torch.from_numpy(counts_with_background(counts)), num_images=2000)
    logits = torch.zeros(2, num_classes + 1, requires_grad=True)
    labels = torch.tensor([0, num_classes])
    predictor.classification_loss(logits, labels).backward()
    assert logits.grad[0, num_classes] > 0
    assert (logits.grad[:, 1] == 0).all()
    assert not caplog.records


def test_shares_of_an_equalization_loss_are_of_the_foreground():
    """A class at the threshold of K classes is not rare, with a background column or without."""
    counts = torch.tensor([60.0, 30.0, 10.0], dtype=torch.float64)
    for threshold in (0.1, 0.11):
        keys = {"threshold": threshold, "probability": 1.0}
        logits = torch.zeros(1, 4, requires_grad=True)
        with_background = torch.from_numpy(counts_with_background(counts.numpy()))
        loss = softmax_equalization_loss(
            logits, torch.tensor([0]), class_counts=with_background, background=True, **keys
        )
        loss.backward()
        assert (logits.grad[0, 2] == 0) == (threshold > 0.1)


def test_an_equalization_loss_without_rare_classes_says_so_in_a_detector(caplog):
    criterion = Criterion("softmax_equalization", threshold=0.1)
    box_predictor(criterion, num_classes=3)
    # With the background's mean count the rarest share would be 0.075.
    counts = torch.tensor([60.0, 30.0, 10.0, 100 / 3], dtype=torch.float64)
    criterion.bind(counts, num_images=100)
    (record,) = caplog.records
    assert "the share of the rarest in the sum of all class counts is 0.1:" in record.message


def test_box_predictors_say_that_there_is_a_background():
    criterion = DeferredCriterion(
        Criterion("softmax_ce"),
        Criterion("softmax_eureka", beta=0.0),
        start_iteration=5,
        current_iteration=lambda: None,
    )
    assert criterion(LOGITS, LABELS)[2] < 0
    box_predictor(criterion, num_classes=3)
    expected = softmax_ce_loss(LOGITS, LABELS)[2]
    torch.testing.assert_close(criterion(LOGITS, LABELS)[2], expected)


@pytest.mark.parametrize(
    ("name", "keys"),
    [("halted_focal", {"mode": "pt"}), ("focal", {"alpha": 25.0}), ("eureka", {"bonus": "x"})],
)
def test_values_out_of_range_are_found_when_the_loss_is_built(name, keys):
    with pytest.raises(ValueError, match=next(iter(keys))):
        Criterion(name, **keys)
