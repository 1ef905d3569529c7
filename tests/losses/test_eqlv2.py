"""EQL v2: its state and its weights."""

from __future__ import annotations

import pytest
import torch

from lt_det.losses import eqlv2_loss, sigmoid_ce_loss
from lt_det.losses.criterion import Criterion
from tests.losses.golden import LABELS, NUM_CLASSES, golden_logits
from tests.reference import losses as reference

LOGITS = golden_logits(5)


def criterion() -> Criterion:
    made = Criterion("eqlv2")
    made.fit_head(NUM_CLASSES, background=True)
    return made


def step(loss: Criterion, logits=LOGITS, labels=LABELS) -> torch.Tensor:
    with loss.step(logits, labels):
        return loss.row_losses(logits, labels)


def test_sums_are_those_of_the_release_after_two_steps():
    loss = criterion()
    step(loss), step(loss)
    sums = loss.state.positive.tolist(), loss.state.negative.tolist()
    assert sums[0] == pytest.approx([4.656798, 1.336025, 0, 4.380355], abs=1e-6)
    assert sums[1] == pytest.approx([2.666288, 2.492090, 3.062384, 2.576033], abs=1e-6)


def test_weights_follow_the_scalar_formula():
    loss = criterion()
    for _ in range(3):
        sums = loss.state.positive.tolist(), loss.state.negative.tolist()
        positive, negative = reference.eqlv2_weights(*sums)
        rows = [
            sum(reference.weighted_sigmoid_ce(z, y, [*positive, 1.0], [*negative, 1.0]))
            for z, y in zip(LOGITS.tolist(), LABELS.tolist())
        ]
        assert step(loss).tolist() == pytest.approx(rows)


def test_is_cross_entropy_before_the_first_step_by_value_and_gradient():
    logits = LOGITS.clone().requires_grad_()
    targets = torch.eye(5, dtype=torch.float64)[LABELS]
    loss = eqlv2_loss(
        logits,
        targets,
        background=True,
        gradient_ratio=criterion().state.arguments()["gradient_ratio"],
    )
    plain = sigmoid_ce_loss(logits, targets)
    torch.testing.assert_close(loss, plain, rtol=1e-12, atol=0)
    for one in (loss, plain):
        one.sum().backward(retain_graph=True)
    gradient = logits.grad / 2
    torch.testing.assert_close(gradient, torch.sigmoid(logits) - targets)


def test_a_class_without_positives_is_spared_and_would_be_pulled():
    loss = criterion()
    step(loss)
    (ratio,) = loss.state.arguments().values()
    assert ratio[2] == 0.0
    targets = torch.eye(5, dtype=torch.float64)[[2, 0]]
    values = eqlv2_loss(LOGITS[:2], targets, gradient_ratio=ratio, background=True)
    plain = sigmoid_ce_loss(LOGITS[:2], targets)
    torch.testing.assert_close(values[0, 2], 4.9997 * plain[0, 2], rtol=1e-4, atol=0)
    torch.testing.assert_close(values[1, 2], 6.773e-5 * plain[1, 2], rtol=1e-3, atol=0)


def test_float32_would_lose_what_a_late_step_adds():
    loss = criterion()
    loss.half()
    loss.state.negative += 1e8
    step(loss)
    assert loss.state.negative.dtype == torch.float64
    assert (loss.state.negative > 1e8).all()


def test_half_precision_gradients_do_not_vanish():
    """In float16 ``1 - sigmoid(9)`` is 0."""
    loss = criterion()
    labels = torch.tensor([0])
    step(loss, torch.full((1, 5), 9.0, dtype=torch.float16), labels)
    assert loss.state.positive[0] == pytest.approx(1.234e-4, rel=1e-3)


def test_scores_are_beside_the_background():
    scores = criterion().scores(LOGITS)
    s = torch.sigmoid(LOGITS)
    torch.testing.assert_close(scores[:, :4], s[:, :4] * (1 - s[:, 4:]))
    torch.testing.assert_close(scores[:, 4], s[:, 4])
