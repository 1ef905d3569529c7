"""FedLoss: which classes take part, and how often."""

from __future__ import annotations

import pytest
import torch

from lt_det.losses import fed_loss, sigmoid_ce_loss
from lt_det.losses.draws import Draws
from lt_det.losses.targets import one_hot_targets

COUNTS = torch.tensor([1.0, 4.0, 16.0, 64.0, 256.0, 1024.0], dtype=torch.float64)


def columns(labels: list[int], seed: int = 0, **parameters: object) -> set[int]:
    """Return the columns with a gradient."""
    logits = torch.zeros(len(labels), 6, requires_grad=True)
    targets = one_hot_targets(torch.tensor(labels), num_classes=6, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    fed_loss(
        logits, targets, class_counts=COUNTS, generator=generator, reduction="sum", **parameters
    ).backward()
    assert ((logits.grad == 0).all(dim=0) | (logits.grad != 0).all(dim=0)).all()
    return set(logits.grad.any(dim=0).nonzero().flatten().tolist())


@pytest.mark.parametrize("seed", range(5))
def test_the_set_has_the_labels_and_as_many_as_wanted(seed):
    for size in range(1, 9):
        found = columns([2, 2, 5], seed, num_sampled=size)
        assert {2, 5} <= found
        assert len(found) == max(2, min(size, 6))
        # The background is one of them, without a column.
        found = columns([2, 5, 6], seed, num_sampled=size)
        assert {2, 5} <= found
        assert len(found) == max(2, min(size - 1, 6))


def test_labels_alone_are_no_draw():
    assert columns([0, 3, 6], num_sampled=3) == {0, 3}
    assert columns([], num_sampled=3) == set()


def test_frequencies_are_in_proportion_to_the_root_of_the_counts():
    draws = 4000
    seen = torch.zeros(6)
    for seed in range(draws):
        (drawn,) = columns([6], seed, num_sampled=2)
        seen[drawn] += 1
    expected = COUNTS.sqrt() / COUNTS.sqrt().sum()
    deviation = (expected * (1 - expected) / draws).sqrt()
    assert ((seen / draws - expected).abs() < 4 * deviation).all()


def test_all_classes_are_binary_cross_entropy_to_the_last_bit():
    logits = torch.randn(5, 6)
    targets = one_hot_targets(torch.tensor([0, 1, 6, 6, 2]), num_classes=6, dtype=torch.float32)
    loss = fed_loss(logits, targets, class_counts=COUNTS)
    assert torch.equal(loss, sigmoid_ce_loss(logits, targets))


def test_wrong_number_is_named():
    with pytest.raises(ValueError, match="num_sampled must be at least 1, got 0"):
        columns([0], num_sampled=0)


def test_draws_are_of_seed_iteration_and_place():
    iteration = 7

    def numbers(**changes: object) -> list[float]:
        source = Draws(**{"seed": 3, "current_iteration": lambda: iteration, **changes})
        return torch.rand(4, generator=source.generator(torch.device("cpu"))).tolist()

    first = numbers()
    assert numbers() == first
    others = [numbers(seed=4), numbers(place=1), numbers(current_iteration=lambda: 8)]
    assert all(other != first for other in others)
    outside = Draws(seed=3, current_iteration=lambda: None)
    assert outside.generator(torch.device("cpu")) is None
