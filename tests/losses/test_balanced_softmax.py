from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lt_det.data.stats.class_prior import counts_with_background
from lt_det.losses import balanced_softmax_loss, softmax_ce_loss
from tests.reference import losses as reference

COUNTS = torch.tensor([1000.0, 100.0, 10.0, 1.0], dtype=torch.float64)


@pytest.fixture
def batch():
    return torch.randn(8, 4, dtype=torch.float64) * 2, torch.arange(8) % 4


@pytest.mark.parametrize("tau", [1.0, 0.25, 0.0, 1.5])
def test_equals_the_printed_formula(batch, tau):
    logits, labels = batch
    expected = [
        reference.balanced_softmax(z, y, COUNTS.tolist(), tau)
        for z, y in zip(logits.tolist(), labels.tolist())
    ]
    loss = balanced_softmax_loss(logits, labels, class_counts=COUNTS, tau=tau)
    torch.testing.assert_close(loss.tolist(), expected)


@pytest.mark.parametrize(("counts", "tau"), [(torch.full((4,), 7.0), 1.0), (COUNTS, 0.0)])
def test_is_cross_entropy_without_a_prior_to_correct(batch, counts, tau):
    logits, labels = batch
    logits.requires_grad_()
    ours = balanced_softmax_loss(logits, labels, class_counts=counts, tau=tau)
    plain = softmax_ce_loss(logits, labels)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(
        *(torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0] for loss in (ours, plain))
    )


@given(scale=st.floats(1e-3, 1e6))
def test_depends_on_ratios_of_counts_only(scale):
    logits, labels = torch.zeros(1, 4, dtype=torch.float64), torch.tensor([2])
    a = balanced_softmax_loss(logits, labels, class_counts=COUNTS)
    b = balanced_softmax_loss(logits, labels, class_counts=COUNTS * scale)
    torch.testing.assert_close(a, b)


def test_gradient_is_adjusted_posterior_minus_one_hot(batch):
    """Appendix A.5: d l / d z_j = phi_hat_j - [y = j]."""
    logits, labels = batch
    logits.requires_grad_()
    balanced_softmax_loss(logits, labels, class_counts=COUNTS).sum().backward()
    weighted = COUNTS * logits.detach().exp()
    posterior = weighted / weighted.sum(1, keepdim=True)
    torch.testing.assert_close(logits.grad, posterior - torch.eye(4).double()[labels])


def test_a_classifier_that_knows_the_prior_is_corrected_to_a_uniform_one():
    """Minimising over a constant logit vector gives equal logits: the prior is explained away."""
    labels = torch.tensor([0] * 8 + [1] * 2)
    logits = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    counts = torch.tensor([8.0, 2.0])
    loss = balanced_softmax_loss(logits.expand(10, 2), labels, class_counts=counts)
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits))


def test_half_precision_counts_do_not_overflow():
    counts = torch.tensor([1e6, 1.0])
    loss = balanced_softmax_loss(torch.zeros(1, 2).half(), torch.tensor([1]), class_counts=counts)
    assert loss.item() == pytest.approx(math.log(1e6 + 1))


class TestBackground:
    def test_offsets_are_those_of_the_fact_sheet(self):
        """log(K n_j / sum n) for the foreground, 0 for the background."""
        counts = COUNTS.numpy()
        with_background = torch.from_numpy(counts_with_background(counts))
        logits = torch.randn(5, 5, dtype=torch.float64)
        labels = torch.arange(5)
        offsets = torch.log(4 * COUNTS / COUNTS.sum())
        expected = softmax_ce_loss(logits + torch.cat([offsets, torch.zeros(1)]), labels)
        loss = balanced_softmax_loss(logits, labels, class_counts=with_background)
        torch.testing.assert_close(loss, expected)

    @pytest.mark.parametrize("tau", [0.25, 1.0, 2.0])
    def test_scale_of_the_counts_does_not_move_the_background(self, tau):
        logits, labels = torch.randn(5, 5, dtype=torch.float64), torch.arange(5)
        losses = [
            balanced_softmax_loss(
                logits,
                labels,
                class_counts=torch.from_numpy(counts_with_background(COUNTS.numpy() * scale)),
                tau=tau,
            )
            for scale in (1.0, 1e4)
        ]
        torch.testing.assert_close(*losses)
