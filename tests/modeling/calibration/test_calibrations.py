"""Each calibration against published numbers, scalars and its degenerate case."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lt_det.modeling.calibration import (
    Affine,
    LogitMoments,
    ProductOfSigmoids,
    fracal,
    logit_adjustment,
    logn,
    norcal,
    sigmoid_fracal,
    tau_norm,
)
from tests.reference.calibration import (
    fracal_scores,
    logn_logits,
    norcal_scores,
    sigmoid_fracal_scores,
)

#: The fixture that the releases were run on: R 6, K 4, background last.
LOGITS = torch.tensor(
    [[((7 * i + 3 * j) % 11 - 5) / 4 for j in range(5)] for i in range(6)], dtype=torch.float64
)
COUNTS = torch.tensor([4.0, 40, 400, 4000])
DIMENSIONS = torch.tensor([1, 1.2, 1.6, 2], dtype=torch.float64)
MEAN, VARIANCE = torch.tensor([-2, -1, -0.5, -1.5]), torch.tensor([1, 4, 0.25, 1.0])
LINEAR = nn.Linear(3, 5)

ALL = {
    "tau_norm": lambda: tau_norm(LINEAR, num_classes=4, tau=0.7),
    "logit_adjustment": lambda: logit_adjustment(COUNTS, tau=1.0),
    "norcal": lambda: norcal(COUNTS, gamma=0.6),
    "norcal effective": lambda: norcal(COUNTS, gamma=0.999, counts="effective"),
    "fracal": lambda: fracal(COUNTS, DIMENSIONS, num_images=5000),
    "sigmoid_fracal": lambda: sigmoid_fracal(COUNTS, DIMENSIONS, num_images=5000),
    "logn": lambda: logn(MEAN, VARIANCE),
}


def scores(calibration, row=0):
    return calibration(LOGITS, background=True)[row].softmax(0).tolist()


def test_golden_numbers_of_the_releases():
    assert scores(norcal(COUNTS, gamma=0.6)) == pytest.approx(
        [0.203465917, 0.108196330, 0.057535169, 0.030595267, 0.600207316], abs=1e-9
    )
    found = fracal(COUNTS, DIMENSIONS, num_images=5000)
    assert scores(found) == pytest.approx(
        [0.499551657, 0.270174459, 0.118356795, 0.058992873, 0.052924215], abs=1e-9
    )
    w = fracal(COUNTS, torch.ones(4), num_images=5000).shift.tolist()
    assert w == pytest.approx([2.494850022, 1.494850022, 0.494850022, -0.505149978], abs=1e-9)
    found = sigmoid_fracal(COUNTS, DIMENSIONS, num_images=5000)
    phi = found.shift - torch.tensor(w, dtype=torch.float64)
    assert phi.tolist() == pytest.approx(
        [0.352182518, 0.193820026, -0.056057447, -0.249877473], abs=1e-9
    )
    assert found(LOGITS[:1, :4], background=False).sigmoid()[0].tolist() == pytest.approx(
        [0.185198155, 0.289386100, 0.374239927, 0.410079041], abs=1e-9
    )
    row = logn(MEAN, VARIANCE)(LOGITS, background=True)[0].tolist()
    assert row[:3] == pytest.approx([-1.25, -0.75, -2.5], abs=1e-12)
    assert row[4] == -1.0
    adjusted = logit_adjustment(COUNTS, tau=1.0)(LOGITS[:, :4], background=False)
    assert adjusted[0].softmax(0).tolist() == pytest.approx(
        [0.789886528, 0.167218979, 0.035400258, 0.007494235], abs=1e-9
    )


@pytest.mark.parametrize("gamma", [0.3, 0.6, 0.99])
def test_against_scalars(gamma):
    counts, dimensions = COUNTS.tolist(), DIMENSIONS.tolist()
    for row, logits in enumerate(LOGITS.tolist()):
        powers = [n**gamma for n in counts]
        assert scores(norcal(COUNTS, gamma=gamma), row) == pytest.approx(
            norcal_scores(logits, powers)
        )
        effective = [(1 - gamma**n) / (1 - gamma) for n in counts]
        found = norcal(COUNTS, gamma=gamma, counts="effective")
        assert scores(found, row) == pytest.approx(norcal_scores(logits, effective))
        arguments = (counts, dimensions, 7000.0, 3 * gamma)
        found = fracal(COUNTS, DIMENSIONS, num_images=7000, strength=3 * gamma)
        assert scores(found, row) == pytest.approx(fracal_scores(logits, *arguments), rel=1e-6)
        found = sigmoid_fracal(COUNTS, DIMENSIONS, num_images=7000, strength=3 * gamma)
        mapped = found(LOGITS[row : row + 1, :4], background=False).sigmoid()[0].tolist()
        expected = sigmoid_fracal_scores(logits[:4], *arguments)
        assert mapped == pytest.approx(expected, rel=1e-6)
        mapped = logn(MEAN, VARIANCE)(LOGITS, background=True)[row].tolist()
        assert mapped[:4] == pytest.approx(logn_logits(logits, MEAN.tolist(), VARIANCE.tolist()))


def test_degenerate_cases_are_the_identity():
    equal = torch.full((4,), 7.0)
    for found in (
        tau_norm(LINEAR, num_classes=4, tau=0.0),
        logit_adjustment(COUNTS, tau=0.0),
        logit_adjustment(equal, tau=1.7),
        norcal(COUNTS, gamma=0.0),
        norcal(COUNTS, gamma=0.0, counts="effective"),
        norcal(torch.ones(4), gamma=2.0),
        fracal(equal, DIMENSIONS, num_images=28, strength=0.0),
        fracal(equal, torch.ones(4), num_images=28),
        logn(torch.full((4,), -3.0), torch.ones(4)),
    ):
        torch.testing.assert_close(found.scale, torch.ones(4, dtype=torch.float64))
        torch.testing.assert_close(found.shift, torch.zeros(4, dtype=torch.float64))
        assert torch.equal(found(LOGITS, background=True), LOGITS)
    squares = sigmoid_fracal(equal, torch.ones(4), num_images=28)
    torch.testing.assert_close(squares.shift, torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(
        squares(LOGITS[:, :4], background=False).sigmoid(), LOGITS[:, :4].sigmoid().square()
    )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_large_half_precision_and_no_logits(name, dtype):
    calibration = ALL[name]()
    logits = torch.tensor([[1e4, -1e4, 0.1, 3.0, -2.0]]).to(dtype)
    found = calibration(logits, background=True)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert torch.equal(found[:, -1], logits[:, -1].float())
    exact = calibration(logits.double(), background=True)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)
    assert calibration(logits[:0], background=True).shape == (0, 5)
    assert calibration(logits[:, :4], background=False).shape == (1, 4)
    with pytest.raises(ValueError, match="must have 4 foreground columns"):
        calibration(logits, background=False)


def test_one_class():
    for found in (
        logit_adjustment(torch.tensor([9.0]), tau=1.0),
        norcal(torch.tensor([9.0]), gamma=0.5),
        fracal(torch.tensor([9.0]), torch.ones(1), num_images=9),
        sigmoid_fracal(torch.tensor([9.0]), torch.ones(1), num_images=9),
        logn(torch.tensor([1.0]), torch.tensor([2.0])),
    ):
        assert found(torch.tensor([[1.0, 2.0]]), background=True).isfinite().all()


def test_two_maps_as_one():
    first, second = norcal(COUNTS, gamma=0.6), logn(MEAN, VARIANCE)
    apart = second(first(LOGITS, background=True), background=True)
    torch.testing.assert_close(first.then(second)(LOGITS, background=True), apart)
    assert not torch.allclose(second.then(first)(LOGITS, background=True), apart)


def test_a_constant_logit_is_not_magnified():
    found = logn(MEAN, torch.tensor([1.0, 4.0, 1e-20, 0.0]))
    assert found.scale.tolist() == [1.0, 0.5, 1.0, 1.0]


def test_logn_is_batch_normalisation_of_the_classes_and_leaves_the_background():
    # The background keeps its unit while the classes lose theirs: with longer logits it wins.
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 5, generator=generator, dtype=torch.float64) * 3 + 1
    norm = nn.BatchNorm1d(5, momentum=None, affine=False).double()
    standard = norm(logits)[:, :4] + (logits.mean(0)[:4].min() / logits.std(0)[:4])
    moments, doubled = LogitMoments(5), LogitMoments(5)
    moments.add(logits)
    doubled.add(2 * logits)
    ours = logn(moments.mean[:4], moments.variance[:4])(logits, background=True)
    torch.testing.assert_close(ours[:, :4], standard, rtol=1e-3, atol=1e-3)
    twice = logn(doubled.mean[:4], doubled.variance[:4])(2 * logits, background=True)
    torch.testing.assert_close(twice[:, :4], ours[:, :4])
    assert torch.equal(twice[:, 4], 2 * ours[:, 4])


def test_moments_do_not_depend_on_order_or_size():
    torch.manual_seed(0)
    logits = torch.randn(1000, 3, dtype=torch.float64) * torch.tensor([1.0, 5, 0.1]) + torch.tensor(
        [1e4, -1e4, 3.0]
    )
    whole, parts, other = LogitMoments(3), LogitMoments(3), LogitMoments(3)
    whole.add(logits)
    for batch in logits[torch.randperm(1000)].split([1, 0, 299, 400, 300]):
        (parts if len(batch) < 350 else other).add(batch)
    parts.merge(other)
    assert parts.count == whole.count == 1000
    torch.testing.assert_close(parts.mean, logits.mean(dim=0), rtol=1e-14, atol=1e-12)
    for found in (parts, whole, LogitMoments.from_dict(parts.to_dict())):
        torch.testing.assert_close(
            found.variance, logits.var(dim=0, unbiased=False), rtol=1e-12, atol=0
        )
    with pytest.raises(ValueError, match="finite"):
        parts.add(torch.tensor([[math.nan, 0, 0]]))
    with pytest.raises(ValueError, match=r"shape \(R, 3\)"):
        parts.add(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="no logits were added"):
        LogitMoments(2).variance  # noqa: B018
    with pytest.raises(ValueError, match="logit moments must have"):
        LogitMoments.from_dict({"count": 3})


def test_arguments_that_make_no_sense():
    bad = torch.tensor([1.0, 0, 2, 3])
    for make, message in (
        (lambda: norcal(COUNTS, gamma=-1.0), "gamma must be at least 0, got -1"),
        (lambda: norcal(COUNTS, gamma=math.nan), "gamma must be at least 0"),
        (lambda: norcal(COUNTS, gamma=1.0, counts="effective"), "gamma must be below 1"),
        (lambda: norcal(COUNTS, gamma=1.0, counts="cb"), "'power' or 'effective', got 'cb'"),
        (lambda: norcal(bad, gamma=1.0), "positive and finite"),
        (lambda: logit_adjustment(bad, tau=1.0), "positive and finite"),
        (lambda: logit_adjustment(COUNTS, tau=-0.1), "tau must be at least 0"),
        (lambda: tau_norm(LINEAR, num_classes=4, tau=-0.1), "tau must be at least 0"),
        (lambda: fracal(COUNTS, DIMENSIONS, num_images=3999), "num_images must be at least"),
        (lambda: fracal(COUNTS, DIMENSIONS[:3], num_images=5000), "dimensions must be 4"),
        (lambda: fracal(COUNTS, DIMENSIONS / 2, num_images=5000), "at least 1, got .*0.5"),
        (lambda: fracal(COUNTS, DIMENSIONS, num_images=5000, strength=-1), "strength must be"),
        (lambda: logn(MEAN, -VARIANCE), "variance at least 0"),
        (lambda: logn(MEAN, VARIANCE[:2]), "K finite numbers each"),
        (lambda: Affine(torch.ones(2), torch.zeros(3)), r"shape \(K,\)"),
        (lambda: Affine(torch.ones(2), torch.tensor([0.0, math.inf])), r"finite.*\[1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_product_of_sigmoids_far_out():
    """Where 1 minus the product is rounded away, the logit still is that of the product."""
    found = ProductOfSigmoids(torch.tensor([2.0], dtype=torch.float64))
    z = torch.tensor([[60.0], [-60.0]], dtype=torch.float64)
    assert found(z, background=False).flatten().tolist() == pytest.approx(
        [60 - math.log1p(math.exp(-2)), -118.0]
    )
