"""Losses of token logits: every loss of the table, ignored positions, normalisation."""

from __future__ import annotations

from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lt_det.losses import LOSSES, balanced_softmax_loss, softmax_ce_loss
from lt_det.losses.base_criterion import BaseCriterion
from lt_det.losses.class_weights import ClassWeights
from lt_det.losses.criterion import Criterion
from lt_det.losses.deferred import DeferredCriterion
from lt_det.losses.tokens import token_loss
from tests.reference import language as reference
from tests.reference import losses as row_reference

VOCABULARY = 5
COUNTS = [400.0, 90.0, 20.0, 3.0, 1.0]
LABELS = torch.tensor([[0, 3, 1, -100], [4, -100, -100, -100], [2, 0, 0, 4]])
KEPT = LABELS != -100
#: Random losses would draw other numbers for a batch than for its rows one by one.
PARAMETERS = {"softmax_equalization": {"probability": 1.0, "threshold": 0.1}}


def make_logits(dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(*LABELS.shape, VOCABULARY, generator=generator, dtype=torch.float64)
    return logits.mul(2).to(dtype).requires_grad_()


def make_criterion(name: str) -> BaseCriterion:
    """Return a criterion; "+weights" and "+deferred" after its loss add what they say."""
    name, _, extra = name.partition("+")
    arguments = {"class_counts": COUNTS, "num_images": 1000, **PARAMETERS.get(name, {})}
    if extra == "weights":
        arguments["class_weights"] = ClassWeights("effective_number", beta=0.9)
    criterion = Criterion(name, **arguments)
    if extra == "deferred":
        before = Criterion(f"{criterion.kind}_ce")
        return DeferredCriterion(before, criterion, start_iteration=5, current_iteration=lambda: 5)
    return criterion


@pytest.fixture(
    params=[n + extra for n in sorted(LOSSES) for extra in ("", "+weights", "+deferred")]
)
def criterion(request: pytest.FixtureRequest) -> BaseCriterion:
    return make_criterion(request.param)


def test_equals_the_loss_of_each_token_by_itself(criterion):
    if criterion.name == "bags":
        pytest.skip("a row of BAGS is among the others of the groups that the batch has")
    logits = make_logits()
    expected = torch.zeros(LABELS.shape, dtype=torch.float64)
    for b, t in KEPT.nonzero().tolist():
        expected[b, t] = criterion.row_losses(logits[b, t][None], LABELS[b, t][None])[0]
    actual = token_loss(criterion, logits, LABELS)
    torch.testing.assert_close(actual, expected)
    assert (actual[~KEPT] == 0).all()
    num_kept = 8
    for reduction, total in (("sum", expected.sum()), ("mean", expected.sum() / num_kept)):
        found = token_loss(criterion, logits, LABELS, reduction=reduction)
        torch.testing.assert_close(found, total)
        # The same of what "none" gives, for losses that are averaged in another way.
        gradients = [torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (found, total)]
        torch.testing.assert_close(*gradients)


def test_equals_scalar_restatements():
    logits = make_logits()
    lists = (logits.tolist(), LABELS.tolist(), -100)
    expected = reference.token_losses(row_reference.softmax_ce, *lists)
    torch.testing.assert_close(token_loss(softmax_ce_loss, logits, LABELS), as_tensor(expected))
    expected = reference.token_losses(
        lambda z, y: row_reference.balanced_softmax(z, y, COUNTS), *lists
    )
    bound = partial(balanced_softmax_loss, class_counts=as_tensor(COUNTS))
    torch.testing.assert_close(token_loss(bound, logits, LABELS), as_tensor(expected))


def as_tensor(values: list) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("ignore_index", [-100, -1, 0, 4])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_cross_entropy_equals_that_of_pytorch(ignore_index, reduction):
    logits = make_logits()
    labels = torch.where(KEPT, LABELS, ignore_index)
    expected = F.cross_entropy(
        logits.transpose(1, 2), labels, ignore_index=ignore_index, reduction=reduction
    )
    actual = token_loss(
        softmax_ce_loss, logits, labels, ignore_index=ignore_index, reduction=reduction
    )
    torch.testing.assert_close(actual, expected)


def test_ignored_positions_reach_neither_value_nor_gradient(criterion):
    clean = make_logits()
    spoilt = clean.detach().clone()
    spoilt[~KEPT] = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e30, 0.0]).double()
    spoilt.requires_grad_()
    losses = [token_loss(criterion, logits, LABELS) for logits in (clean, spoilt)]
    assert torch.equal(*losses)
    for loss, logits in zip(losses, (clean, spoilt)):
        (loss * torch.linspace(1, 2, LABELS.numel()).view_as(LABELS)).sum().backward()
        assert (logits.grad[~KEPT] == 0).all()
        assert (logits.grad[KEPT] != 0).any()
    assert torch.equal(clean.grad, spoilt.grad)


def test_a_batch_without_labels_gives_zero_with_a_graph(criterion):
    for shape, reduction in product([(2, 3), (0, 3), (2, 0)], ["none", "mean", "sum"]):
        logits = torch.randn(*shape, VOCABULARY, requires_grad=True)
        labels = torch.full(shape, -100)
        loss = token_loss(criterion, logits, labels, reduction=reduction)
        assert loss.shape == (shape if reduction == "none" else ())
        assert (loss == 0).all()
        loss.sum().backward()
        assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_deferred_losses_are_asked_for_the_iteration():
    iteration = [0]
    after = make_criterion("balanced_softmax")
    deferred = DeferredCriterion(
        Criterion("softmax_ce"),
        after,
        start_iteration=2,
        current_iteration=lambda: iteration[0],
    )
    logits = make_logits()
    for iteration[0], expected in ((1, softmax_ce_loss), (2, after)):
        torch.testing.assert_close(
            token_loss(deferred, logits, LABELS), token_loss(expected, logits, LABELS)
        )


def test_rows_and_half_precision():
    logits = make_logits()
    rows = token_loss(softmax_ce_loss, logits.flatten(0, 1), LABELS.flatten())
    assert torch.equal(rows, token_loss(softmax_ce_loss, logits, LABELS).flatten())
    half = make_logits(torch.float16)
    loss = token_loss(softmax_ce_loss, half, LABELS)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, rows.view_as(LABELS).float(), atol=0.01, rtol=0.01)


@pytest.mark.parametrize("wrong", [-1, -100, VOCABULARY])
def test_refuses_labels_that_are_neither_ignored_nor_in_the_vocabulary(wrong):
    labels = torch.tensor([[0, wrong, 1]])
    with pytest.raises(ValueError, match=rf"ignore_index \(0\).*\[{wrong}\]"):
        token_loss(softmax_ce_loss, torch.zeros(1, 3, VOCABULARY), labels, ignore_index=0)


def of_each_class(rows: Tensor, labels: Tensor) -> Tensor:
    targets = F.one_hot(labels, VOCABULARY).to(rows)
    return F.binary_cross_entropy_with_logits(rows, targets, reduction="none")


@pytest.mark.parametrize(
    ("loss", "got"), [(F.cross_entropy, r"\(\)"), (of_each_class, r"\(8, 5\)")]
)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_refuses_losses_that_are_not_one_number_a_token(loss, got, reduction):
    with pytest.raises(ValueError, match=rf"shape \(8,\), got {got}: .*reduction=.none"):
        token_loss(loss, make_logits(), LABELS, reduction=reduction)
    right = partial(F.cross_entropy, reduction="none")
    torch.testing.assert_close(
        token_loss(right, make_logits(), LABELS, reduction=reduction),
        token_loss(softmax_ce_loss, make_logits(), LABELS, reduction=reduction),
    )


def test_refuses_what_does_not_fit():
    logits = torch.zeros(2, VOCABULARY, 3)
    with pytest.raises(ValueError, match=r"\(B, T, V\).*\(2, 5, 3\) and \(2, 3\)"):
        token_loss(softmax_ce_loss, logits, torch.zeros(2, 3, dtype=torch.int64))
    logits = logits.transpose(1, 2)
    with pytest.raises(ValueError, match="int64"):
        token_loss(softmax_ce_loss, logits, torch.zeros(2, 3, dtype=torch.int32))
    for labels in (torch.zeros(2, 3, dtype=torch.int64), torch.full((2, 3), -100)):
        with pytest.raises(ValueError, match="reduction must be"):
            token_loss(softmax_ce_loss, logits, labels, reduction="average")
