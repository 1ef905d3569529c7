"""Deferral: which loss when, without any state of its own."""

from __future__ import annotations

import logging

import pytest
import torch

from lt_det.losses.class_weights import ClassWeights
from lt_det.losses.criterion import Criterion
from lt_det.losses.deferred import DeferredCriterion

COUNTS = torch.tensor([90.0, 9.0, 1.0], dtype=torch.float64)
CB = ClassWeights("effective_number", beta=0.99)


class Clock:
    now: int | None = 0

    def __call__(self) -> int | None:
        return self.now


def deferred(kind: str = "softmax", **keys: object) -> tuple[DeferredCriterion, Clock]:
    clock = Clock()
    before, after = Criterion(f"{kind}_ce"), Criterion(f"{kind}_ce", class_weights=CB)
    arguments = {"start_iteration": 3, "current_iteration": clock, **keys}
    return DeferredCriterion(before, after, **arguments), clock


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_switches_at_the_start_and_is_the_last_loss_outside_of_training(kind):
    criterion, clock = deferred(kind)
    for child in (criterion.before, criterion.after):
        child.bind(COUNTS, 90)
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    assert criterion.kind == kind
    before, after = criterion.before, criterion.after
    assert not torch.allclose(before.mean_loss(logits, labels), after.mean_loss(logits, labels))
    # Back and forth: it keeps nothing.
    for clock.now, expected in ((0, before), (2, before), (3, after), (9, after), (0, before)):
        for method in ("row_losses", "mean_loss"):
            actual = getattr(criterion, method)(logits, labels)
            assert torch.equal(actual, getattr(expected, method)(logits, labels))
    clock.now = None
    assert criterion.current() is after
    assert not criterion.state_dict()


def test_start_may_depend_on_the_data_set_and_is_asked_for_once():
    calls = []
    criterion, clock = deferred(start_iteration=lambda: calls.append(1) or 2)
    assert not calls
    assert criterion.current() is criterion.before
    clock.now = 2
    assert criterion.current() is criterion.after
    assert len(calls) == 1


def test_switch_is_logged_once(caplog):
    criterion, clock = deferred()
    with caplog.at_level(logging.INFO):
        for clock.now in range(3):
            criterion.current()
        assert not caplog.records
        for clock.now in (3, 4, 5):
            criterion.current()
    assert len(caplog.records) == 1
    assert "iteration 3: deferred loss 'softmax_ce', class_weights=" in caplog.text


def test_losses_of_two_kinds_are_refused():
    with pytest.raises(ValueError, match="'focal' of kind 'sigmoid'"):
        DeferredCriterion(
            Criterion("focal"),
            Criterion("softmax_ce"),
            start_iteration=1,
            current_iteration=Clock(),
        )
