"""A class-weighted mean that is divided by the sum of the rows' weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from lt_det.losses import LOSSES
from lt_det.losses.class_weights import ClassWeights
from lt_det.losses.criterion import Criterion
from lt_det.losses.deferred import DeferredCriterion
from lt_det.losses.ldam import ldam_loss
from lt_det.losses.tokens import token_loss

COUNTS = [5000.0, 300.0, 50.0]
BY_WEIGHTS = ClassWeights("effective_number", denominator="weights")
SOFTMAX = sorted(name for name, spec in LOSSES.items() if spec.kind == "softmax")


def effective_weights():
    inverse = [(1 - 0.9999) / (1 - 0.9999**n) for n in COUNTS]
    return [w * len(COUNTS) / sum(inverse) for w in inverse]


def criterion_of(name, weights=BY_WEIGHTS, **hyperparameters):
    return Criterion(
        name, class_counts=COUNTS, num_images=5350, class_weights=weights, **hyperparameters
    )


def batch(rows=7):
    generator = torch.Generator().manual_seed(rows)
    logits = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (rows,), generator=generator)
    return logits.requires_grad_(), labels


def both(loss, logits):
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.detach(), gradient


@pytest.mark.parametrize("labels", [None, [0, 0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0]])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_it_is_torch_s_weighted_cross_entropy(labels, reduction):
    logits, drawn = batch()
    labels = drawn if labels is None else torch.tensor(labels)
    weight = torch.tensor(effective_weights(), dtype=torch.float64)
    ours = criterion_of("softmax_ce")(logits, labels, reduction=reduction)
    theirs = F.cross_entropy(logits, labels, weight=weight, reduction=reduction)
    torch.testing.assert_close(both(ours.sum(), logits), both(theirs.sum(), logits))
    torch.testing.assert_close(ours, theirs)


def test_ldam_is_as_its_release_has_it():
    logits, labels = batch()
    weights = torch.tensor(effective_weights(), dtype=torch.float64)[labels]
    counts = torch.tensor(COUNTS, dtype=torch.float64)
    rows = ldam_loss(logits, labels, class_counts=counts)
    expected = (weights * rows).sum() / weights.sum()
    ours = criterion_of("ldam").mean_loss(logits, labels)
    torch.testing.assert_close(both(ours, logits), both(expected, logits))


def test_eureka_s_bonus_keeps_its_weights_and_is_divided_by_rows():
    """The deferred phase of EL+CB, number by number."""
    logits, labels = batch()
    weights, total, base, bonus = effective_weights(), 0.0, 0.0, 0.0
    for row, label in zip(logits.tolist(), labels.tolist()):
        p = math.exp(row[label]) / sum(math.exp(z) for z in row)
        base += weights[label] * -math.log(p)
        bonus += weights[label] * math.log(1 - p)
        total += weights[label]
    loss = criterion_of("softmax_eureka").mean_loss(logits, labels)
    assert float(loss) == pytest.approx(base / total + bonus / len(labels), rel=1e-12)
    by_hand = [
        weights[label] * -math.log(p[label]) + weights[label] * math.log(1 - p[label])
        for p, label in zip(logits.softmax(dim=1).tolist(), labels.tolist())
    ]
    assert criterion_of("softmax_eureka").row_losses(logits, labels).tolist() == pytest.approx(
        by_hand, rel=1e-12
    )
    # Its own weights: with other class weights the bonus stays what it was.
    inverse = ClassWeights("inverse_frequency", denominator="weights")
    others = criterion_of("softmax_eureka", inverse).row_losses(logits, labels)
    base_only = criterion_of("softmax_ce", inverse).row_losses(logits, labels)
    mine = criterion_of("softmax_ce").row_losses(logits, labels)
    torch.testing.assert_close(
        others - base_only, torch.tensor(by_hand, dtype=torch.float64) - mine
    )


@pytest.mark.parametrize("name", SOFTMAX)
def test_rows_of_one_class_have_the_loss_without_weights(name):
    logits, _ = batch()
    labels = torch.full((len(logits),), 2)
    torch.manual_seed(0)
    weighted = criterion_of(name).mean_loss(logits, labels)
    torch.manual_seed(0)
    torch.testing.assert_close(weighted, criterion_of(name, None).mean_loss(logits, labels))


@pytest.mark.parametrize("name", SOFTMAX)
def test_an_empty_batch_is_zero_with_a_graph(name):
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = criterion_of(name).mean_loss(logits, torch.zeros(0, dtype=torch.int64))
    assert both(loss, logits)[0] == 0


def test_one_extreme_weight_does_not_spoil_half_precision():
    logits = torch.tensor([[4.0, 0, 0], [0, 1, 3]], dtype=torch.float16)
    loss = criterion_of("softmax_ce").mean_loss(logits, torch.tensor([0, 2]))
    weight = torch.tensor(effective_weights())
    expected = F.cross_entropy(logits.float(), torch.tensor([0, 2]), weight=weight)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


def test_tokens_are_divided_as_rows_are():
    logits, labels = batch(6)
    labels[1] = -100
    weight = torch.tensor(effective_weights(), dtype=torch.float64)
    ours = token_loss(
        criterion_of("softmax_ce"), logits.view(2, 3, 3), labels.view(2, 3), reduction="mean"
    )
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels, weight=weight))


def test_a_deferred_loss_says_so_before_its_switch():
    plain, weighted = criterion_of("softmax_ce", None), criterion_of("softmax_ce")
    for before, after, expected in ((plain, weighted, True), (plain, plain, False)):
        deferred = DeferredCriterion(before, after, start_iteration=5, current_iteration=lambda: 0)
        assert deferred.mean_is_over_weights is expected


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="denominator must be 'rows' or 'weights', got 'images'"):
        ClassWeights("effective_number", denominator="images")
    with pytest.raises(ValueError, match="denominator 'weights' is the weighted mean of a soft"):
        criterion_of("focal")
