"""Equilibrium loss and inverse image frequency: what only they do."""

from __future__ import annotations

import pytest
import torch

from lt_det.losses import equilibrium_loss, iif_loss
from lt_det.losses.criterion import Criterion
from lt_det.losses.iif import iif_scores, inverse_image_frequency
from tests.losses.golden import IMAGES, LABELS, NUM_CLASSES, NUM_IMAGES, golden_logits
from tests.reference import losses as reference


def test_means_move_by_one_step_for_each_class_of_a_batch():
    criterion = Criterion("equilibrium")
    criterion.fit_head(NUM_CLASSES, background=True)
    logits, labels = golden_logits(5), torch.tensor([0, 0, 2, 4, 4, 4])
    scores = [reference.softmax(row) for row in logits.tolist()]
    for step in (1, 2):
        with criterion.step(logits, labels):
            pass
        kept = 0.9**step
        expected = [0.01] * 4
        expected[0] = kept * 0.01 + (1 - kept) * (scores[0][0] + scores[1][0]) / 2
        expected[2] = kept * 0.01 + (1 - kept) * scores[2][2]
        assert criterion.state.scores.tolist() == pytest.approx(expected)


def test_the_loss_is_of_the_means_with_its_own_batch():
    """As the release: the update comes first."""
    criterion = Criterion("equilibrium")
    criterion.fit_head(NUM_CLASSES, background=True)
    logits = golden_logits(5)
    for _ in range(2):
        with criterion.step(logits, LABELS):
            found = criterion.mean_loss(logits, LABELS)
        scores = [*criterion.state.scores.tolist(), 0.01]
        rows = zip(logits.tolist(), LABELS.tolist())
        expected = sum(reference.equilibrium(z, y, scores) for z, y in rows) / len(LABELS)
        assert float(found) == pytest.approx(expected)


def test_equals_the_scalar_formula_and_has_no_gradient_by_the_means():
    means = torch.tensor([0.01, 0.02, 0.3, 0.6], dtype=torch.float64, requires_grad=True)
    keys = {"background": True, "background_score": 0.05}
    logits = golden_logits(5).requires_grad_()
    found = equilibrium_loss(logits, LABELS, mean_scores=means.detach(), **keys)
    scores = [*means.tolist(), 0.05]
    rows = zip(logits.tolist(), LABELS.tolist())
    expected = [reference.equilibrium(z, y, scores) for z, y in rows]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    found.sum().backward()
    weighted = (logits.detach() + torch.tensor(scores, dtype=torch.float64).log()).softmax(dim=1)
    torch.testing.assert_close(logits.grad, weighted - torch.eye(5, dtype=torch.float64)[LABELS])


def test_scores_of_zero_leave_the_loss_finite():
    loss = equilibrium_loss(torch.zeros(1, 2), torch.tensor([0]), mean_scores=torch.zeros(2))
    assert float(loss) == pytest.approx(0.6931472)
    with pytest.raises(ValueError, match="background_score must be above 0"):
        Criterion("equilibrium", background_score=0.0)


@pytest.mark.parametrize("variant", ["raw", "smooth", "rel", "normit", "gombit", "base2", "base10"])
def test_iif_with_a_background_equals_the_scalar_formula(variant):
    counts = torch.tensor(IMAGES, dtype=torch.float64)
    keys = {"class_counts": counts, "num_images": NUM_IMAGES, "variant": variant}
    logits = golden_logits(5)
    found = iif_loss(logits, LABELS, background=True, **keys)
    rows = zip(logits.tolist(), LABELS.tolist())
    expected = [
        reference.iif(z, y, IMAGES, NUM_IMAGES, variant=variant, background=True) for z, y in rows
    ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    scores = iif_scores(logits, background=True, **keys)
    torch.testing.assert_close(-scores.gather(1, LABELS[:, None])[:, 0].log(), found)


@pytest.mark.parametrize("variant", ["raw", "smooth", "rel", "normit", "gombit", "base2", "base10"])
def test_a_class_of_every_image_has_a_finite_factor(variant):
    factors = inverse_image_frequency(
        torch.tensor([7.0, 1.0]), num_images=7, variant=variant
    ).tolist()
    assert all(abs(factor) < 10 for factor in factors)
    assert factors[0] < factors[1]


def test_iif_names_an_unknown_variant():
    with pytest.raises(ValueError, match="variant must be one of .*'raw'.*, got 'prob'"):
        Criterion("iif", variant="prob")


@pytest.mark.parametrize("name", ["bags", "equilibrium", "iif"])
def test_one_class_is_no_special_case(name):
    for background in (False, True):
        criterion = Criterion(name, class_counts=[3.0], num_images=9)
        criterion.fit_head(1, background=background)
        columns = 1 + len(criterion.extra_columns(background=background))
        labels = torch.tensor([0, 0, int(background), 0])
        logits = torch.randn(4, columns, requires_grad=True)
        with criterion.step(logits, labels):
            loss = criterion.mean_loss(logits, labels)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()
