"""Balanced group softmax: groups, others, objectness, scores."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lt_det.losses import bags_loss, sigmoid_ce_loss
from lt_det.losses.bags import bags_scores
from lt_det.losses.criterion import Criterion
from lt_det.losses.targets import one_hot_targets
from tests.reference import losses as reference

COUNTS = torch.tensor([9.0, 10.0, 5000.0, 99.0, 100.0, 1.0], dtype=torch.float64)
K = len(COUNTS)
KEYS = {"class_counts": COUNTS, "background": True}


def batch(rows: int = 40, background: bool = True) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    columns = K + 6 if background else K
    logits = 2 * torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return logits, torch.arange(rows) % (K + background)


@pytest.mark.parametrize("others_ratio", [0.0, 100.0])
@pytest.mark.parametrize("bounds", [(10.0, 100.0, 1000.0), (50.0,), ()])
def test_equals_the_scalar_formula_with_a_background(others_ratio, bounds):
    logits, labels = batch()
    logits = logits[:, : K + len(bounds) + 3]
    keys = {"bounds": bounds, "others_ratio": others_ratio}
    found = bags_loss(logits, labels, **KEYS, **keys)
    expected = reference.bags(
        logits.tolist(), labels.tolist(), COUNTS.tolist(), background=True, **keys
    )
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_a_group_for_each_class_is_a_sigmoid_for_each():
    """Value and gradient: a softmax of a class and others is a sigmoid of the difference."""
    counts = torch.tensor([1.0, 20.0, 300.0, 4000.0])
    logits = batch()[0][:, :10].requires_grad_()
    labels = torch.arange(40) % 5
    keys = {"class_counts": counts, "background": True, "others_ratio": 100.0}
    loss = bags_loss(logits, labels, reduction="mean", **keys)
    margin = logits[:, :4] - logits[:, 4:8]
    targets = one_hot_targets(labels, num_classes=4, dtype=torch.float64)
    objects = one_hot_targets((labels == 4).long(), num_classes=2, dtype=torch.float64)
    expected = sigmoid_ce_loss(margin, targets, reduction="sum") / 40
    expected = expected - (objects * logits[:, 8:].log_softmax(dim=1)).sum() / 40
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (loss, expected)]
    torch.testing.assert_close(*gradients)


def test_others_are_drawn_without_replacement_and_anew():
    logits = torch.zeros(300, K + 6, requires_grad=True)
    labels = torch.full((300,), K)
    labels[:3] = torch.tensor([0, 5, 2])  # two of the rarest group, one of the most frequent
    chosen = []
    for seed in (0, 0, 1):
        generator = torch.Generator().manual_seed(seed)
        loss = bags_loss(logits, labels, generator=generator, reduction="sum", **KEYS)
        (gradient,) = torch.autograd.grad(loss, logits)
        used = gradient[:, K : K + 4] != 0
        assert used.sum(dim=0).tolist() == [18, 0, 0, 9]  # 1 + beta times as many
        assert used[:2, 0].all()
        assert used[2, 3]
        chosen.append(used)
    assert torch.equal(chosen[0], chosen[1])
    assert not torch.equal(chosen[0], chosen[2])
    assert (gradient[:, K + 4 :] != 0).all()  # objectness: all rows


def test_a_group_of_a_mean_over_its_own_rows():
    """The mean over all rows is the sum of the means of the groups, however few rows they have."""
    logits = torch.zeros(100, K + 6)
    labels = torch.full((100,), K)
    labels[0] = 2
    found = float(bags_loss(logits, labels, reduction="mean", **KEYS))
    two = float(torch.log(torch.tensor(2.0)))
    assert found == pytest.approx(two + two)  # one class and others; object and background


def test_scores_are_those_of_the_group_times_the_object():
    logits, _ = batch(5)
    scores = bags_scores(logits, background=True, class_counts=COUNTS, bounds=(10, 100, 1000))
    z = logits[0]
    rare = torch.stack([z[0], z[5], z[K]]).softmax(dim=0)
    objectness = z[-2:].softmax(dim=0)
    torch.testing.assert_close(scores[0, [0, 5]], rare[:2] * objectness[0])
    torch.testing.assert_close(scores[0, K], objectness[1])
    assert scores.shape == (5, K + 1)
    keys = {"class_counts": COUNTS, "bounds": (10.0, 100.0, 1000.0)}
    plain = bags_scores(logits[:, :K], background=False, **keys)
    rare = torch.stack([z[0], z[5], z.new_zeros(())]).softmax(dim=0)
    torch.testing.assert_close(plain[0, [0, 5]], rare[:2])


@pytest.mark.parametrize("rows", [0, 4])
def test_no_rows_and_no_foreground_are_finite(rows):
    logits = torch.randn(rows, K + 6, requires_grad=True)
    loss = bags_loss(logits, torch.full((rows,), K), reduction="mean", **KEYS)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[:, : K + 4] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_extreme_logits_of_a_detector_are_finite(dtype):
    logits, labels = batch(12)
    logits = (logits.sign() * 1e4).to(dtype).requires_grad_()
    loss = bags_loss(logits, labels, reduction="sum", **KEYS)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    keys = {"class_counts": COUNTS, "bounds": (10.0, 100.0, 1000.0)}
    assert torch.isfinite(bags_scores(logits, background=True, **keys)).all()


def test_values_out_of_range_are_named():
    for keys, text in (
        ({"bounds": (10.0, 5.0)}, "bounds must be positive and ascend, got"),
        ({"bounds": (0.0,)}, "bounds must"),
        ({"others_ratio": -1.0}, "others_ratio must be at least 0"),
    ):
        with pytest.raises(ValueError, match=text):
            Criterion("bags", **keys)
    criterion = Criterion("bags", bounds=(50.0,))
    columns = criterion.extra_columns(background=True)
    assert columns == ("others0", "others1", "object", "background")
    assert criterion.extra_columns(background=False) == ()
