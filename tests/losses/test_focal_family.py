"""Focal, halted focal and Eureka losses: printed values, joints, slopes and identities."""

from __future__ import annotations

import math

import pytest
import torch
from fvcore.nn import sigmoid_focal_loss as fvcore_focal_loss
from torch import Tensor
from torch.nn import functional as F

from lt_det.losses.bonus import bonus_of_margin
from lt_det.losses.class_weights import effective_number, inverse_weights
from lt_det.losses.eureka import sigmoid_eureka_loss, softmax_eureka_loss
from lt_det.losses.focal import sigmoid_focal_loss, softmax_focal_loss
from lt_det.losses.halted_focal import (
    sigmoid_halted_focal_loss,
    softmax_halted_focal_loss,
)
from lt_det.losses.tail import tail_classes

PROBABILITIES = [0.1, 0.3, 0.5, 0.7, 0.9, 0.99]
#: Of a positive: worked out from the formulas, independently of this package.
GOLDEN = {
    "ce": [2.302585, 1.203973, 0.693147, 0.356675, 0.105361, 0.010050],
    "focal": [0.466273, 0.147487, 0.043322, 0.008025, 0.000263, 0.0],
    "halted": [0.466273, 0.147487, 0.043322, -0.040796, -0.103625, -0.127453],
    "simplified": [2.302585, 1.203973, 0.693147, -0.154151, -1.504077, -3.901973],
    "log": [2.197225, 0.847298, 0.0, -0.847298, -2.197225, -4.595120],
    "end75": [2.197225, 0.847298, 0.0, -0.847298, -1.880934, -2.336244],
    "end50": [2.197225, 0.847298, 0.0, -0.736472, -1.387787, -1.663097],
    "power4": [2.302485, 1.195873, 0.630647, 0.116575, -0.550739, -0.950546],
}
ONE = torch.ones(1, dtype=torch.float64)
PLAIN = {"alpha": None, "gamma": 0.0, "class_counts": ONE}
SIGMOID = {
    "ce": lambda x, t: sigmoid_focal_loss(x, t, alpha=None, gamma=0.0),
    "focal": sigmoid_focal_loss,
    "halted": sigmoid_halted_focal_loss,
    "simplified": lambda x, t: sigmoid_eureka_loss(x, t, bonus="simplified", **PLAIN),
    "log": lambda x, t: sigmoid_eureka_loss(x, t, bonus="log", **PLAIN),
    "end75": lambda x, t: sigmoid_eureka_loss(x, t, **PLAIN),  # the default
    "end50": lambda x, t: sigmoid_eureka_loss(x, t, bonus="conservative", log_end=0.5, **PLAIN),
    "power4": lambda x, t: sigmoid_eureka_loss(x, t, bonus="power", **PLAIN),
}


def column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def positives(loss: object, p: list[float]) -> Tensor:
    x = column(p).logit()
    return loss(x, torch.ones_like(x))[:, 0]


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden_values(name):
    expected = torch.tensor(GOLDEN[name], dtype=torch.float64)
    actual = positives(SIGMOID[name], PROBABILITIES)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1.01e-6)


@pytest.mark.parametrize("bonus", ["log", "conservative", "power", "simplified"])
def test_softmax_kind_of_two_classes_is_the_sigmoid_kind(bonus):
    x = column(PROBABILITIES).logit()
    two = torch.cat([torch.zeros_like(x), x], dim=1)
    labels = torch.ones(len(x), dtype=torch.int64)
    counts = torch.ones(2, dtype=torch.float64)
    t = torch.ones_like(x)
    torch.testing.assert_close(
        softmax_eureka_loss(two, labels, class_counts=counts, bonus=bonus),
        sigmoid_eureka_loss(x, t, bonus=bonus, **PLAIN)[:, 0],
    )
    torch.testing.assert_close(
        softmax_focal_loss(two, labels, gamma=1.5),
        sigmoid_focal_loss(x, t, alpha=None, gamma=1.5)[:, 0],
    )
    torch.testing.assert_close(
        softmax_halted_focal_loss(two, labels, class_counts=counts, gamma=2.0, phi=0.6),
        sigmoid_halted_focal_loss(x, t, alpha=None, phi=0.6)[:, 0],
    )


@pytest.mark.parametrize("gamma", [1.0, 2.0])
@pytest.mark.parametrize("alpha", [0.25, 0.5])
def test_focal_is_detectron2_s_to_the_last_bit(alpha, gamma):
    x = (torch.randn(500, 7) * 5).requires_grad_()
    t = (torch.rand(500, 7) < 0.1).float()
    theirs = fvcore_focal_loss(x, t, alpha=alpha, gamma=gamma, reduction="sum")
    ours = sigmoid_focal_loss(x, t, alpha=alpha, gamma=gamma, reduction="sum")
    assert torch.equal(ours, theirs)
    assert torch.equal(torch.autograd.grad(ours, x)[0], torch.autograd.grad(theirs, x)[0])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.999, 1.0, 2.0])
def test_focal_gradient_is_the_derived_one_at_every_margin(gamma):
    m = torch.tensor([-1e4, -50, -5, -0.3, 0, 0.3, 5, 50, 1e4], dtype=torch.float64)[:, None]
    m.requires_grad_()
    (grad,) = torch.autograd.grad(
        sigmoid_focal_loss(m, torch.ones_like(m), alpha=None, gamma=gamma).sum(), m
    )
    with torch.no_grad():
        p, q, nll = m.sigmoid(), (-m).sigmoid(), F.softplus(-m)
        torch.testing.assert_close(grad, -(q**gamma) * (gamma * p * nll + q), atol=1e-12, rtol=1e-6)


def test_focal_without_gamma_is_cross_entropy():
    z, y = torch.randn(9, 5, dtype=torch.float64), torch.arange(9) % 5
    torch.testing.assert_close(
        softmax_focal_loss(z, y, gamma=0.0), F.cross_entropy(z, y, reduction="none")
    )


@pytest.mark.parametrize("phi", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("mode", ["positives", "p_t", "release"])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_halted_focal_is_continuous_and_monotone(phi, gamma, mode, target):
    edges = [phi, 1 - phi]
    for edge in edges:
        x = column([edge - 1e-9, edge + 1e-9]).logit()
        t = torch.full_like(x, target)
        low, high = sigmoid_halted_focal_loss(x, t, gamma=gamma, phi=phi, mode=mode)[:, 0]
        assert abs(float(low - high)) < 1e-7
    x = torch.linspace(-8, 8, 400, dtype=torch.float64)[:, None]
    loss = sigmoid_halted_focal_loss(x, torch.full_like(x, target), gamma=gamma, phi=phi, mode=mode)
    steps = loss.diff(dim=0)
    assert ((steps < 0) if target else (steps > 0)).all()


def test_halted_focal_has_the_slope_of_cross_entropy_beyond_phi():
    x = column([0.6, 0.8]).logit().requires_grad_()
    loss = sigmoid_halted_focal_loss(x, torch.ones_like(x), alpha=0.25, phi=0.5)
    (grad,) = torch.autograd.grad(loss.sum(), x)
    torch.testing.assert_close(grad[:, 0], -0.25 * torch.tensor([0.4, 0.2], dtype=torch.float64))


def test_modes_of_halted_focal_differ_on_negatives_only():
    x = column([0.1, 0.4, 0.6, 0.9]).logit()
    ones, zeros = torch.ones_like(x), torch.zeros_like(x)
    focal = sigmoid_focal_loss(x, zeros)
    by_mode = {}
    for mode in ("positives", "p_t", "release"):
        torch.testing.assert_close(
            sigmoid_halted_focal_loss(x, ones, mode=mode), sigmoid_halted_focal_loss(x, ones)
        )
        by_mode[mode] = sigmoid_halted_focal_loss(x, zeros, mode=mode)
    torch.testing.assert_close(by_mode["positives"], focal)
    equal_p_t = torch.isclose(by_mode["p_t"], focal)[:, 0].tolist()
    equal_release = torch.isclose(by_mode["release"], focal)[:, 0].tolist()
    assert equal_p_t == [False, False, True, True]
    assert equal_release == [True, True, False, False]
    # the released code: alpha_t (BCE - log 2 (1 - 0.5^gamma)) where x > 0
    expected = 0.75 * (-math.log(1 - 0.9) - math.log(2) * 0.75)
    assert float(by_mode["release"][3]) == pytest.approx(expected)


def test_tail_is_rounded_and_ties_go_by_class_id():
    counts = torch.tensor([50.0, 5, 5, 90, 5, 1, 200, 7, 8, 9])
    assert tail_classes(counts, tail_fraction=0.2).nonzero().flatten().tolist() == [1, 5]
    assert tail_classes(counts, tail_fraction=0.3).nonzero().flatten().tolist() == [1, 2, 5]
    # 0.29 * 100 is 28.99...
    assert int(tail_classes(torch.ones(100), tail_fraction=0.29).sum()) == 29
    assert [int(tail_classes(counts, tail_fraction=t / 10).sum()) for t in range(11)] == list(
        range(11)
    )


def test_eureka_of_weight_one_is_minus_the_margin_and_its_slope_is_derived():
    z = torch.randn(6, 4, dtype=torch.float64).requires_grad_()
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    counts = torch.tensor([90.0, 50, 20, 1], dtype=torch.float64)
    rows = torch.arange(6)
    loss = softmax_eureka_loss(z, y, class_counts=counts, beta=0.99)
    (grad,) = torch.autograd.grad(loss.sum(), z)
    w = inverse_weights(effective_number(counts, beta=0.99))[y]
    p = z.detach().softmax(1)[rows, y]
    torch.testing.assert_close(grad[rows, y], -(1 - p) - w * p)
    flat = softmax_eureka_loss(z, y, class_counts=counts, beta=0.0)
    torch.testing.assert_close(flat, -(p / (1 - p)).log())


@pytest.mark.parametrize("end", [0.25, 0.5, 0.75])
def test_conservative_bonus_is_smooth_and_bounded(end):
    def at(p: float) -> tuple[float, float]:
        m = torch.tensor(p, dtype=torch.float64).logit().requires_grad_()
        value = bonus_of_margin(m, bonus="conservative", log_end=end)
        return value.item(), float(torch.autograd.grad(value, m)[0])

    for low, high in zip(at(end - 1e-9), at(end + 1e-9)):
        assert low == pytest.approx(high, abs=1e-7)
    assert at(1 - 1e-12)[0] == pytest.approx(math.log(1 - end) - 1, abs=1e-6)


def test_clamp_is_the_release_s():
    m = torch.tensor([5.0, 11.51, 11.52, 30.0], dtype=torch.float64, requires_grad=True)
    value = bonus_of_margin(m)
    (grad,) = torch.autograd.grad(value.sum(), m)
    assert float(value[3]) == pytest.approx(-11.512925)
    assert (grad[:2] < -0.9).all()
    assert (grad[2:] == 0).all()
    (grad,) = torch.autograd.grad(bonus_of_margin(m, clamp_eps=0.0).sum(), m)
    assert (grad < -0.9).all()


@pytest.mark.parametrize(
    "parameters",
    [
        {"bonus": "log"},
        {"bonus": "conservative"},
        {"bonus": "conservative", "log_end": 1 - 1e-7},
        {"bonus": "power"},
        {"bonus": "simplified"},
        {"bonus": "simplified", "phi": 1 - 1e-7},
    ],
)
def test_every_bonus_is_bounded_falls_without_a_jump_and_ends(parameters):
    m = torch.linspace(-40, 40, 80_001, dtype=torch.float64, requires_grad=True)
    value = bonus_of_margin(m, **parameters)
    (grad,) = torch.autograd.grad(value.sum(), m)
    assert value.min() >= math.log(1e-5)
    assert value.max() <= 0
    steps = value.detach().diff()
    assert (steps <= 1e-12).all()
    assert steps.min() > -1.01e-3  # no slope is above 1
    assert (grad[m > 37].abs() < 1e-12).all()


def test_detection_bonus_is_on_positives_and_not_weighed_by_alpha():
    x = torch.randn(6, 3, dtype=torch.float64)
    t = torch.zeros_like(x)
    t[2, 1] = 1
    counts = torch.tensor([100.0, 10, 1], dtype=torch.float64)
    bonus = sigmoid_eureka_loss(
        x, t, class_counts=counts, bonus_scale=0.3, beta=0.9, bonus="log"
    ) - sigmoid_focal_loss(x, t)
    weight = inverse_weights(effective_number(counts, beta=0.9))[1]
    expected = torch.zeros_like(x)
    expected[2, 1] = 0.3 * weight * torch.log(1 - x[2, 1].sigmoid())
    torch.testing.assert_close(bonus, expected)


def test_class_weights():
    counts = torch.tensor([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]).double()
    e = effective_number(counts, beta=0.9999)
    torch.testing.assert_close(e, (1 - 0.9999**counts) / (1 - 0.9999), rtol=1e-8, atol=0)
    ends = {"mean_one": (0.0506, 3.993), "paper": (0.272, 21.44), "max": (0.0127, 1.0)}
    for normalisation, (low, high) in ends.items():
        w = inverse_weights(e, normalisation=normalisation)
        assert float(w[0]) == pytest.approx(low, rel=5e-3)
        assert float(w[-1]) == pytest.approx(high, rel=5e-3)
    assert effective_number(counts, beta=0.0).tolist() == [1.0] * 10
    assert float(inverse_weights(e).mean()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x, t: sigmoid_focal_loss(x, t, gamma=-1.0), "gamma must be"),
        (lambda x, t: sigmoid_focal_loss(x, t, alpha=1.5), "alpha must be"),
        (lambda x, t: sigmoid_halted_focal_loss(x, t, phi=1.0), "phi must be"),
        (lambda x, t: sigmoid_halted_focal_loss(x, t, mode="head"), "mode must be"),
        (lambda x, t: sigmoid_eureka_loss(x, t, class_counts=ONE, bonus="cube"), "bonus must be"),
        (lambda x, t: sigmoid_eureka_loss(x, t, class_counts=ONE, beta=1.0), "beta must be"),
        (lambda x, _: bonus_of_margin(x, clamp_eps=1.0), "clamp_eps must be"),
        (lambda x, _: bonus_of_margin(x, bonus="power", power=0.0), "power must be"),
        (lambda *_: inverse_weights(ONE, normalisation="sum"), "normalisation must be"),
        (lambda *_: tail_classes(ONE, tail_fraction=2.0), "tail_fraction must be"),
    ],
)
def test_wrong_parameters_are_named(call, text):
    x = torch.zeros(2, 1)
    with pytest.raises(ValueError, match=text):
        call(x, x)
