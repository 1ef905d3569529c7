"""The loss without corrections: of the scores that a prediction has, for every row of the table."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lt_det.losses import LOSSES, PLAIN_LOSS
from lt_det.losses.criterion import Criterion
from lt_det.losses.deferred import DeferredCriterion
from lt_det.losses.targets import one_hot_targets

#: Two classes in each of the two groups that the bounds of "bags" below make.
COUNTS, K = [80.0, 40.0, 5.0, 2.0], 4
GROUPS = [[2, 3], [0, 1]]
WITH_PLAIN = [name for name, spec in LOSSES.items() if spec.plain is not None]
ORDINARY = [
    (name, background)
    for name, spec in LOSSES.items()
    for background in (True, False)
    if spec.scoring(background=background) == spec.kind
]


@pytest.fixture(params=["detector", "images"])
def background(request: pytest.FixtureRequest) -> bool:
    return request.param == "detector"


def criterion_of(name: str, background: bool) -> Criterion:
    keys = {"bounds": (10.0,)} if name == "bags" else {}
    counted = background and LOSSES[name].counts_background
    counts = [*COUNTS, 50.0] if counted else COUNTS
    criterion = Criterion(name, class_counts=counts, num_images=100, **keys)
    criterion.fit_head(K, background=background)
    return criterion


def batch(criterion: Criterion, background: bool, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    columns = K + len(criterion.extra_columns(background=background))
    labels = torch.arange(K + background).repeat(3)
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(len(labels), columns, generator=generator).double(), labels


@pytest.mark.parametrize("name", LOSSES)
def test_is_of_the_scores_of_a_prediction(name, background):
    """Of each part that is a probability of its own: all classes, one class, one group."""
    criterion = criterion_of(name, background)
    logits, labels = batch(criterion, background)
    scores = criterion.scores(logits)
    rows = torch.arange(len(labels))
    if criterion.scoring(background=background) == "sigmoid_beside_background":
        scores = torch.cat([scores[:, :K] / (1 - scores[:, K:]), scores[:, K:]], dim=1)
    if name == "bags":
        expected = -scores[rows, labels].log()
        in_groups = scores[:, :K] / (1 - scores[:, K:].sum(dim=1, keepdim=True))
        for members in GROUPS:
            others = 1 - in_groups[:, members].sum(dim=1)
            elsewhere = ~torch.isin(labels, torch.tensor(members))
            expected = expected - elsewhere * others.log()
    elif criterion.kind == "softmax":
        expected = -scores[rows, labels].log()
    else:
        targets = one_hot_targets(labels, num_classes=scores.shape[1], dtype=scores.dtype)
        expected = -(targets * scores.log() + (1 - targets) * torch.log1p(-scores)).sum(dim=1)
    torch.testing.assert_close(criterion.plain_row_losses(logits, labels), expected)
    assert criterion.has_plain_loss(background=background)


@pytest.mark.parametrize(("name", "on_background"), ORDINARY)
def test_is_the_cross_entropy_to_the_last_bit_for_ordinary_scores(name, on_background):
    criterion = criterion_of(name, on_background)
    plain = Criterion(PLAIN_LOSS[criterion.kind])
    for dtype in (torch.float16, torch.float32, torch.float64):
        logits, labels = batch(criterion, on_background)
        pairs = []
        for function in (criterion.plain_row_losses, plain.row_losses):
            leaf = logits.to(dtype).requires_grad_()
            losses = function(leaf, labels)
            pairs.append((losses, *torch.autograd.grad(losses.sum(), leaf)))
        assert all(torch.equal(a, b) for a, b in zip(*pairs))


@pytest.mark.parametrize("name", WITH_PLAIN)
def test_derivatives_and_extreme_logits(name, background):
    criterion = criterion_of(name, background)
    logits, labels = batch(criterion, background)
    assert torch.autograd.gradcheck(
        lambda z: criterion.plain_row_losses(z, labels), logits.requires_grad_()
    )
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        extreme = (1e4 * logits.detach().sign()).to(dtype).requires_grad_()
        losses = criterion.plain_row_losses(extreme, labels)
        losses.sum().backward()
        assert losses.dtype == torch.promote_types(dtype, torch.float32)
        assert torch.isfinite(losses).all()
        assert torch.isfinite(extreme.grad).all()
    assert criterion.plain_row_losses(logits[:0], labels[:0]).shape == (0,)


def test_of_a_deferred_loss_is_that_of_the_last_scores():
    before, after = (
        Criterion("iif", class_counts=COUNTS, num_images=100, variant=variant)
        for variant in ("raw", "smooth")
    )
    deferred = DeferredCriterion(before, after, start_iteration=5, current_iteration=lambda: 0)
    deferred.fit_head(K, background=True)
    logits, labels = batch(after, True)
    expected = -deferred.scores(logits)[torch.arange(len(labels)), labels].log()
    torch.testing.assert_close(deferred.plain_row_losses(logits, labels), expected)
    assert deferred.has_plain_loss(background=True)
