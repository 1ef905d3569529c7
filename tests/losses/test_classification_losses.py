"""LDAM and the softmax equalization loss against scalar re-statements and cross-entropy."""

from __future__ import annotations

import pytest
import torch

from lt_det.losses import ldam_loss, softmax_ce_loss, softmax_equalization_loss
from tests.reference import losses as reference

COUNTS = torch.tensor([900.0, 90.0, 9.0, 1.0], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 3, 3])


@pytest.fixture
def logits():
    return (3 * torch.randn(5, 4, dtype=torch.float64)).requires_grad_()


@pytest.mark.parametrize(("max_margin", "scale"), [(0.5, 30.0), (0.3, 2.0)])
def test_ldam_is_its_formula(logits, max_margin, scale):
    keys = {"max_margin": max_margin, "scale": scale}
    loss = ldam_loss(logits, LABELS, class_counts=COUNTS, **keys)
    expected = [
        reference.ldam(z, y, COUNTS.tolist(), **keys)
        for z, y in zip(logits.tolist(), LABELS.tolist())
    ]
    assert loss.tolist() == pytest.approx(expected)


def test_ldam_without_margin_is_cross_entropy(logits):
    for keys in ({"max_margin": 0.0}, {"scale": 0.0}):
        loss = ldam_loss(logits, LABELS, class_counts=COUNTS, **keys).sum()
        (gradient,) = torch.autograd.grad(loss, logits)
        plain = softmax_ce_loss(logits, LABELS).sum()
        (expected,) = torch.autograd.grad(plain, logits)
        assert loss.item() == plain.item()
        assert torch.equal(gradient, expected)


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_equalization_is_its_formula(logits, probability):
    spared = torch.rand(len(LABELS), 4, generator=torch.Generator().manual_seed(3)) < probability
    rare = [False, True, True, True]  # shares .9, .09, .009, .001
    expected = [
        reference.equalization(z, y, [r and s for r, s in zip(rare, of_row)])
        for z, y, of_row in zip(logits.tolist(), LABELS.tolist(), spared.tolist())
    ]
    loss = softmax_equalization_loss(
        logits,
        LABELS,
        class_counts=COUNTS,
        threshold=0.1,
        probability=probability,
        generator=torch.Generator().manual_seed(3),
    )
    assert loss.tolist() == pytest.approx(expected)


def test_equalization_spares_rare_classes_only_from_others(logits):
    loss = softmax_equalization_loss(
        logits, LABELS, class_counts=COUNTS, threshold=0.01, probability=1.0
    )
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert (gradient[:3, 3] == 0).all()
    assert (gradient[[0, 1, 3], 2] == 0).all()
    assert (gradient[[3, 4], 3] < 0).all()
    assert (gradient[1:, 0] > 0).all()


@pytest.mark.parametrize(
    ("loss", "keys", "word"),
    [
        (ldam_loss, {"max_margin": -1.0}, "max_margin"),
        (ldam_loss, {"scale": -1.0}, "scale"),
        (softmax_equalization_loss, {"threshold": 2.0}, "threshold"),
        (softmax_equalization_loss, {"probability": -0.1}, "probability"),
    ],
)
def test_bad_values_are_named(logits, loss, keys, word):
    with pytest.raises(ValueError, match=word):
        loss(logits, LABELS, class_counts=COUNTS, **keys)
