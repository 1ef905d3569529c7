"""EQL, DropLoss, ECM, Gumbel and GOL, ACSL, EFL, Seesaw: what only they do."""

from __future__ import annotations

import logging
import math

import pytest
import torch

from lt_det.losses import (
    acsl_loss,
    drop_loss,
    ecm_loss,
    efl_loss,
    eql_loss,
    gol_loss,
    gumbel_loss,
    seesaw_loss,
)
from lt_det.losses.criterion import Criterion
from lt_det.losses.gumbel import gumbel_logit, gumbel_scores
from lt_det.losses.targets import one_hot_targets
from tests.losses.golden import IMAGES, LABELS, NUM_CLASSES, NUM_IMAGES, golden_logits
from tests.reference import losses as reference

TARGETS = one_hot_targets(LABELS, num_classes=NUM_CLASSES, dtype=torch.float64)
COUNTS = torch.tensor(IMAGES, dtype=torch.float64)
#: Class 0 is in 8e-4 of the images: rare, as usual for LVIS.
BOUND = {"class_counts": COUNTS, "num_images": NUM_IMAGES}


def gradient(loss, logits=None, **options):
    logits = (golden_logits(4) if logits is None else logits).clone().requires_grad_()
    loss(logits, TARGETS, reduction="sum", **options).backward()
    return logits.grad


def test_eql_spares_rare_classes_on_foreground_rows_alone():
    found = gradient(eql_loss, **BOUND) != 0
    expected = torch.ones(6, 4, dtype=torch.bool)
    expected[1:3, 0] = False
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["eql", "droploss"])
def test_a_threshold_without_rare_classes_is_told(name, caplog):
    with caplog.at_level(logging.WARNING):
        Criterion(name, class_counts=IMAGES, num_images=NUM_IMAGES)
        assert not caplog.records
        Criterion(name, class_counts=IMAGES, num_images=NUM_IMAGES, threshold=0.0008)
    assert "no class is below the threshold 0.0008, the rarest is in 0.0008" in caplog.text


@pytest.mark.parametrize("loss", [drop_loss, gol_loss])
def test_background_elements_are_kept_as_often_as_rare_labels_are(loss):
    """One label of three is rare: a third of the elements stays, each by itself."""
    rows = 3000
    logits = torch.zeros(3 + rows, 4, requires_grad=True)
    labels = torch.cat([torch.tensor([0, 1, 3]), torch.full((rows,), 4)])
    targets = one_hot_targets(labels, num_classes=4, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    loss(logits, targets, generator=generator, reduction="sum", **BOUND).backward()
    kept = logits.grad != 0
    assert kept[3:, 1:].all()
    assert kept[0].all()
    assert not kept[1:3, 0].any()
    share = kept[3:, 0].double().mean()
    assert abs(share - 1 / 3) < 4 * math.sqrt(2 / 9 / rows)


@pytest.mark.parametrize("loss", [drop_loss, gol_loss])
def test_without_foreground_nothing_is_dropped(loss):
    logits = torch.zeros(4, 4, requires_grad=True)
    loss(logits, torch.zeros(4, 4), reduction="sum", **BOUND).backward()
    assert (logits.grad != 0).all()


def test_ecm_equals_the_pair_of_exponentials_with_a_background():
    logits = golden_logits(5)
    targets = torch.eye(5, dtype=torch.float64)[LABELS]
    for ratio in (6.3313, 2.0):
        found = ecm_loss(
            logits, targets, class_counts=COUNTS, background_ratio=ratio, background=True
        )
        expected = [
            reference.ecm(z, y, IMAGES, ratio) for z, y in zip(logits.tolist(), LABELS.tolist())
        ]
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_ecm_weighs_the_rarest_of_lvis_by_1():
    """In float32 the release gives 0.946 for one image, 1.052 for three."""
    counts = torch.tensor([1.0, 3.0, 360_000.0])
    logits = torch.full((1, 4), 0.0)
    targets = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    found = ecm_loss(logits, targets, class_counts=counts, background=True)
    total = 7.3313 * 360_004
    for j, count in enumerate((1.0, 3.0)):
        margin = -0.25 * math.log((total - count) / count)
        assert float(found[0, j]) == pytest.approx(math.log1p(math.exp(margin)), rel=1e-5)


def test_gumbel_has_a_gradient_where_the_release_has_none():
    logits = torch.tensor([[-3.9, -4.1, -8.0, 12.0]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[1.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    loss = gumbel_loss(logits, targets)
    loss.sum().backward()
    steepest = math.exp(4)
    expected = [-math.exp(3.9), -steepest, -steepest, 1.0]
    assert logits.grad[0].tolist() == pytest.approx(expected, rel=1e-5)
    assert float(loss[0, 2]) == pytest.approx(steepest + 4 * steepest)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_gumbel_pieces_meet(target):
    """Value and slope on both sides of each border."""
    for border in (-4.0, 4.0, -20.0):
        sides = []
        for z in (border - 1e-9, border + 1e-9):
            logits = torch.tensor([[z]], dtype=torch.float64, requires_grad=True)
            loss = gumbel_loss(logits, torch.full_like(logits, target)).sum()
            loss.backward()
            sides.append((float(loss), float(logits.grad)))
        assert sides[0] == pytest.approx(sides[1], rel=1e-7, abs=1e-7)


def test_gumbel_scores_and_their_inverse():
    scores = gumbel_scores(torch.tensor([[0.0, -1e4, 1e4]]), background=False)
    assert scores[0].tolist() == pytest.approx([0.3678794, 0.0, 1.0])
    p = torch.tensor([1e-3, 0.3, 0.999], dtype=torch.float64)
    torch.testing.assert_close(gumbel_scores(gumbel_logit(p)[None], background=False)[0], p)


def test_acsl_draws_rows_for_whole_groups():
    rows = 250
    targets = torch.zeros(rows, 4)
    logits = torch.full((rows, 4), 9.0, requires_grad=True)  # high scores change nothing here
    counts = torch.tensor([5.0, 5.0, 50.0, 500.0])
    generator = torch.Generator().manual_seed(0)
    acsl_loss(logits, targets, class_counts=counts, generator=generator, reduction="sum").backward()
    kept = logits.grad != 0
    assert kept.sum(dim=0).tolist() == [2, 2, 25, 250]
    assert torch.equal(kept[:, 0], kept[:, 1])


def test_acsl_pushes_classes_that_score_high_on_foreground_rows():
    logits = torch.tensor([[0.0, 0.9, 0.8, 0.8473]], requires_grad=True)
    targets = torch.tensor([[1.0, 0, 0, 0]])
    acsl_loss(logits, targets, class_counts=COUNTS, reduction="sum").backward()
    # sigmoid(0.8473) = 0.7
    assert (logits.grad != 0).tolist() == [[True, True, False, True]]


def test_efl_focuses_and_weighs_rare_classes():
    balance = torch.tensor([0.1, 0.5, 0.8, 1.0], dtype=torch.float64)
    logits = golden_logits(4)
    found = efl_loss(logits, TARGETS, balance=balance)
    expected = [
        [reference.efl(z, t, g) for z, t, g in zip(*row, balance.tolist())]
        for row in zip(logits.tolist(), TARGETS.tolist())
    ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_efl_collects_the_gradients_of_its_own_step():
    criterion = Criterion("efl")
    criterion.fit_head(NUM_CLASSES, background=True)
    for _ in range(3):
        logits = golden_logits(4).requires_grad_()
        before = criterion.state.positive.clone(), criterion.state.negative.clone()
        with criterion.step(logits, LABELS):
            criterion(logits, TARGETS, reduction="sum").backward()
        size = logits.grad.abs()
        added = criterion.state.positive - before[0], criterion.state.negative - before[1]
        torch.testing.assert_close(added[0], (size * TARGETS).sum(dim=0))
        torch.testing.assert_close(added[1], (size * (1 - TARGETS)).sum(dim=0))


def test_seesaw_has_no_gradient_through_its_factors():
    logits = golden_logits(4)[:3].requires_grad_()
    labels = LABELS[:3]
    seen = torch.tensor([1.0, 10, 100, 1000])
    seesaw_loss(logits, labels, seen_counts=seen, reduction="sum").backward()
    z = logits.detach()
    factors = torch.ones(3, 4, dtype=torch.float64)
    scores = z.softmax(dim=1)
    for row, y in enumerate(labels.tolist()):
        for j in range(4):
            if j != y:
                m = min(1.0, float(seen[j] / seen[y])) ** 0.8
                c = max(1.0, float(scores[row, j] / scores[row, y].clamp(min=0.01))) ** 2
                factors[row, j] = m * c
    softmax = (factors.log() + z).softmax(dim=1)
    expected = softmax - torch.eye(4, dtype=torch.float64)[labels]
    torch.testing.assert_close(logits.grad, expected)


def test_seesaw_does_not_count_the_background():
    criterion = Criterion("seesaw")
    criterion.fit_head(NUM_CLASSES, background=True)
    with criterion.step(golden_logits(6), LABELS):
        pass
    assert criterion.state.counts.tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("eql", {"threshold": -0.1}),
        ("seesaw", {"q": -1.0}),
        ("seesaw", {"eps": 0.0}),
        ("ecm", {"background_ratio": 0.0}),
        ("gumbel", {"linear_below": -100.0}),
        ("acsl", {"rare_share": 1.5}),
        ("acsl", {"score_threshold": 1.0}),
        ("efl", {"scale": -1.0}),
    ],
)
def test_values_out_of_range_are_named(name, keys):
    with pytest.raises(ValueError, match=next(iter(keys))):
        Criterion(name, **keys)


@pytest.mark.parametrize(
    "name", ["fedloss", "eqlv2", "ecm", "acsl", "eql", "droploss", "gol", "gumbel", "efl"]
)
def test_one_class_is_no_special_case(name):
    criterion = Criterion(name, class_counts=[3.0], num_images=9)
    for background in (False, True):
        criterion.fit_head(1, background=background)
        columns = 1 + len(criterion.extra_columns(background=background))
        logits = torch.randn(4, columns, requires_grad=True)
        with criterion.step(logits, torch.tensor([0, 0, 1, 0])):
            loss = criterion.mean_loss(logits, torch.tensor([0, 0, 1, 0]))
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()
