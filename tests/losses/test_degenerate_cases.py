"""Where a loss must turn into a simpler one: values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lt_det.losses import LOSSES, get_loss
from lt_det.losses.class_weights import ClassWeights
from lt_det.losses.criterion import Criterion

COUNTS = [40.0, 40.0, 9.0, 2.0]
EQUAL = [7.0] * 4
#: loss, parameters, counts; the loss it becomes, parameters
CASES = [
    ("balanced_softmax", {"tau": 0.0}, COUNTS, "softmax_ce", {}),
    ("balanced_softmax", {}, EQUAL, "softmax_ce", {}),
    ("balanced_sigmoid", {}, [50.0] * 4, "sigmoid_ce", {}),  # half of all images
    ("focal", {"gamma": 0.0, "alpha": None}, COUNTS, "sigmoid_ce", {}),
    ("softmax_focal", {"gamma": 0.0}, COUNTS, "softmax_ce", {}),
    *[
        ("halted_focal", {"gamma": 0.0, "alpha": None, "mode": m}, COUNTS, "sigmoid_ce", {})
        for m in ("positives", "p_t", "release")
    ],
    ("halted_focal", {"phi": 1 - 1e-12}, COUNTS, "focal", {}),
    ("softmax_halted_focal", {"gamma": 0.0}, COUNTS, "softmax_ce", {}),
    ("softmax_halted_focal", {"tail_fraction": 0.0}, COUNTS, "softmax_focal", {}),
    ("eureka", {"bonus_scale": 0.0}, COUNTS, "focal", {}),
    ("eureka", {"beta": 0.9}, EQUAL, "eureka", {"beta": 0.0}),
    (
        "eureka",
        {"bonus": "simplified", "phi": 1 - 1e-12, "gamma": 0.0, "alpha": None},
        COUNTS,
        "sigmoid_ce",
        {},
    ),
    ("softmax_eureka", {"bonus_scale": 0.0}, COUNTS, "softmax_ce", {}),
    ("fedloss", {"num_sampled": 5}, COUNTS, "sigmoid_ce", {}),
    ("eqlv2", {}, COUNTS, "sigmoid_ce", {}),  # before the first step
    ("eql", {"threshold": 0.0}, COUNTS, "sigmoid_ce", {}),
    ("droploss", {"threshold": 0.0}, COUNTS, "sigmoid_ce", {}),
    ("droploss", {"threshold": 1.0}, COUNTS, "eql", {"threshold": 1.0}),  # all labels rare
    ("gol", {"threshold": 0.0}, COUNTS, "gumbel", {}),
    ("efl", {}, COUNTS, "focal", {}),  # before the first step
    ("equilibrium", {}, COUNTS, "softmax_ce", {}),  # before the first step
    # a factor of 1 for all classes
    ("iif", {"variant": "base10"}, [10.0] * 4, "softmax_ce", {}),
    ("iif", {"variant": "smooth"}, [100.0] * 4, "softmax_ce", {}),
    ("ldam", {"max_margin": 0.0}, COUNTS, "softmax_ce", {}),
    ("seesaw", {"p": 0.0, "q": 0.0}, COUNTS, "softmax_ce", {}),
    (
        "acsl",
        {"score_threshold": 1e-9, "rare_share": 1.0, "common_share": 1.0},
        COUNTS,
        "sigmoid_ce",
        {},
    ),
    ("softmax_eureka", {"beta": 0.9}, EQUAL, "softmax_eureka", {"beta": 0.0}),
    *[
        (
            "softmax_eureka",
            {"bonus": "conservative", "log_end": 1 - 1e-12, "beta": 0.0},
            COUNTS,
            "softmax_eureka",
            {"bonus": "log", "beta": 0.0},
        )
    ],
]


def value_and_gradient(criterion: Criterion) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(20, 4, generator=generator, dtype=torch.float64).mul(2).requires_grad_()
    labels = torch.arange(20) % (5 if criterion.kind == "sigmoid" else 4)
    loss = criterion.row_losses(logits, labels)
    # Each row by another factor, so that errors of rows do not cancel.
    (gradient,) = torch.autograd.grad((loss * torch.linspace(1, 2, 20).double()).sum(), logits)
    return loss.detach(), gradient


@pytest.mark.parametrize(("name", "parameters", "counts", "simple", "simple_parameters"), CASES)
def test_becomes_the_simpler_loss(name, parameters, counts, simple, simple_parameters):
    loss = Criterion(name, class_counts=counts, num_images=100, **parameters)
    simpler = Criterion(simple, class_counts=counts, num_images=100, **simple_parameters)
    for actual, expected in zip(value_and_gradient(loss), value_and_gradient(simpler)):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize(
    ("counts", "class_weights"),
    [
        (EQUAL, ClassWeights("inverse_frequency")),
        (COUNTS, ClassWeights("effective_number", beta=0.0)),
    ],
)
def test_equal_class_weights_are_none(name, counts, class_weights):
    plain = Criterion(name, class_counts=counts, num_images=100)
    weighted = Criterion(name, class_counts=counts, num_images=100, class_weights=class_weights)
    for actual, expected in zip(value_and_gradient(weighted), value_and_gradient(plain)):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradient_of_a_weighted_loss_is_the_weighted_gradient(name):
    weights = ClassWeights("inverse_frequency", normalisation="max").of_counts(torch.tensor(COUNTS))
    plain = Criterion(name, class_counts=COUNTS, num_images=100)
    weighted = Criterion(
        name,
        class_counts=COUNTS,
        num_images=100,
        class_weights=ClassWeights("inverse_frequency", normalisation="max"),
    )
    kind = get_loss(name).kind
    rows = torch.cat([weights, torch.ones(1)])[torch.arange(20) % (5 if kind == "sigmoid" else 4)]
    (loss, gradient), (actual, actual_gradient) = map(value_and_gradient, (plain, weighted))
    torch.testing.assert_close(actual, loss * rows)
    torch.testing.assert_close(actual_gradient, gradient * rows[:, None])
