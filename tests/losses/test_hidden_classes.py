"""A class that image lists hide is as a column that is not there, for every loss and its modes."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from lt_det.losses import LOSSES
from lt_det.losses.bonus import Bonus
from lt_det.losses.criterion import Criterion
from lt_det.losses.deferred import DeferredCriterion
from lt_det.losses.halted_focal import HaltedMode
from lt_det.losses.iif import Variant
from lt_det.losses.image_lists import KNOWN, UNKNOWN, ImageLists
from lt_det.modeling.classifiers.classification_head import ClassificationHead
from lt_det.modeling.dense.losses import listed_logits

#: Class 0 is in every image: its inverse frequency is 0 or negative.
COUNTS = torch.tensor([100.0, 50.0, 20.0, 2.0], dtype=torch.float64)
NUM_IMAGES, K = 100, 4
LABELS = torch.tensor([1, 4, 2, 1, 4])
#: Without chance, and so that no parameter depends on class 0.
PARAMETERS = {
    "softmax_equalization": [{"threshold": 0.05, "probability": 1.0}],
    "softmax_eureka": [{"beta": 0.0, "bonus": b} for b in get_args(Bonus)],
    "eureka": [{"bonus": b} for b in get_args(Bonus)],
    "halted_focal": [{"mode": m} for m in get_args(HaltedMode)],
    "iif": [{"variant": v} for v in get_args(Variant)],
    **{name: [{"threshold": 0.05}] for name in ("eql", "droploss", "gol")},
}
CASES = [(name, p) for name in sorted(LOSSES) for p in PARAMETERS.get(name, [{}])]
SIGMOID_CASES = [case for case in CASES if LOSSES[case[0]].kind == "sigmoid"]


def make_logits(columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return 2 * torch.randn(len(LABELS), columns, generator=generator, dtype=torch.float64)


def head_of(name: str, parameters: dict, *, first: int, lists: bool) -> ClassificationHead:
    """Return a head of the classes from ``first`` on; with lists that hide class 0."""
    counts = COUNTS[first:]
    if LOSSES[name].counts_background:
        counts = torch.cat([counts, counts.new_tensor([60.0])])
    head = ClassificationHead()
    head.criterion = Criterion(name, class_counts=counts, num_images=NUM_IMAGES, **parameters)
    head.criterion.fit_head(K - first, background=True)
    if lists:
        head.criterion.image_lists = ImageLists("known")
        knowledge = torch.tensor([UNKNOWN, KNOWN, KNOWN, KNOWN], dtype=torch.uint8)
        head.criterion.image_lists.knowledge = knowledge.expand(2, -1)
    return head


def columns_of(name: str) -> int:
    return K + len(Criterion(name).extra_columns(background=True))


# The odds of this one are of the sum of all counts.
@pytest.mark.parametrize(("name", "parameters"), [case for case in CASES if case[0] != "ecm"])
def test_loss_and_gradient_are_those_without_the_column(name, parameters):
    found = []
    for first, lists in ((0, True), (1, False)):
        head = head_of(name, parameters, first=first, lists=lists)
        logits = make_logits(columns_of(name))[:, first:].requires_grad_()
        for _ in range(2):  # a state moves
            torch.manual_seed(0)
            loss = head.classification_loss(logits, LABELS - first, regions_per_image=[3, 2])
        found.append((loss, *torch.autograd.grad(loss, logits)))
    (hidden, with_it), (gone, without_it) = found
    assert (with_it[:, 0] == 0).all()
    assert without_it.any()
    torch.testing.assert_close(hidden, gone)
    torch.testing.assert_close(with_it[:, 1:], without_it)


@pytest.mark.parametrize(("name", "parameters"), SIGMOID_CASES)
def test_hidden_elements_are_0_and_all_others_as_they_were(name, parameters):
    found = []
    for lists in (True, False):
        criterion = head_of(name, parameters, first=0, lists=lists).criterion
        logits = make_logits(columns_of(name))
        if lists:
            images = torch.tensor([0, 0, 0, 1, 1])
            logits = criterion.image_lists.hide(
                logits, LABELS, images, value=criterion.hidden_logit
            )
        targets = Criterion._targets(logits, LABELS)
        for _ in range(2):
            torch.manual_seed(0)
            with criterion.step(logits, targets):
                losses = criterion(logits, targets)
        found.append(losses)
    assert (found[0][:, 0] == 0).all()
    assert torch.equal(found[0][:, 1:], found[1][:, 1:])


def test_dense_detectors_hide_by_what_their_loss_asks_for():
    criterion = head_of("halted_focal", {"mode": "p_t"}, first=0, lists=True).criterion
    labels = LABELS[:4].view(2, 2)
    seen = listed_logits(criterion, torch.zeros(2, 2, K), labels)
    assert (criterion(seen, torch.zeros(4, K))[:, 0] == 0).all()


def test_a_deferred_loss_hides_by_the_one_of_the_iteration():
    iteration = 0
    deferred = DeferredCriterion(
        Criterion("halted_focal"),
        Criterion("focal"),
        start_iteration=1,
        current_iteration=lambda: iteration,
    )
    first = deferred.hidden_logit
    iteration = 1
    assert (first, deferred.hidden_logit) == (-float("inf"), -1e4)
