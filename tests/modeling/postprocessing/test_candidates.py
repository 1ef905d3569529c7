"""The best scores are the first of a stable sort of all scores."""

from __future__ import annotations

import pytest
import torch

from lt_det.modeling.postprocessing import candidates
from lt_det.modeling.postprocessing.candidates import best_candidates
from tests.modeling.postprocessing.reference import Waits
from tests.modeling.small_models import LargestTensor

SHAPES = [(1, 1), (7, 3), (500, 1), (1, 500), (90, 70), (70, 130), (300, 64), (1000, 5)]


def matrix(shape, *, levels=None, kind="uniform", seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(shape, generator=generator)
    if kind == "negative":
        scores = scores - 0.5
    if kind == "few regions":  # most of the best lie in a few regions
        scores[: shape[0] // 10] += 1
    if levels is not None:
        scores = (scores * levels).round() / levels
    return scores


def check(scores, number):
    best = best_candidates(scores, number)
    flat = scores.reshape(-1)
    order = flat.sort(descending=True, stable=True)[1][:number]
    assert torch.equal(best.regions * scores.shape[1] + best.classes, order)
    assert torch.equal(best.scores, flat[order])
    assert best.scores.dtype == scores.dtype


@pytest.mark.parametrize("few", [0, 2**17], ids=["grouped", "as they are"])
@pytest.mark.parametrize("levels", [None, 100, 3, 1])
@pytest.mark.parametrize("kind", ["uniform", "negative", "few regions"])
def test_order(few, levels, kind, monkeypatch, device):
    monkeypatch.setattr(candidates, "_FEW", few)
    for seed, shape in enumerate(SHAPES):
        scores = matrix(shape, levels=levels, kind=kind, seed=seed).to(device)
        for number in (0, 1, 2, 13, 100, 10**6):
            check(scores, number)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, monkeypatch, device):
    monkeypatch.setattr(candidates, "_FEW", 0)
    for kind in ("uniform", "negative"):
        check(matrix((200, 130), kind=kind).to(device, dtype), 50)


def test_the_real_size(device):
    for levels in (None, 1000):
        check(matrix((1000, 1203), levels=levels).to(device), 1024)
        check(matrix((5000, 203), levels=levels).to(device), 300)


def test_zeros_of_both_signs_are_equal(device):
    scores = torch.tensor([[-0.0, 0.0, -1e-45, 1e-45, 0.0, -0.0]], device=device)
    check(scores, 6)


def test_columns_that_are_left_out_are_not_read(monkeypatch, device):
    """The heads' last column is the background."""
    monkeypatch.setattr(candidates, "_FEW", 0)
    scores = matrix((300, 131)).to(device)
    scores[:, -1] = 9
    check(scores[:, :-1], 40)


def test_no_scores_at_all(device):
    for shape in ((0, 5), (5, 0), (0, 0)):
        assert len(best_candidates(torch.zeros(shape, device=device), 3).scores) == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_nan_is_among_the_best(sign, monkeypatch, device):
    monkeypatch.setattr(candidates, "_FEW", 0)
    nan = torch.copysign(torch.tensor(float("nan")), torch.tensor(float(sign)))
    scores = matrix((300, 130)).to(device)
    scores[200, 77] = nan
    best = best_candidates(scores, 5)
    assert bool(best.scores[0].isnan())
    assert (int(best.regions[0]), int(best.classes[0])) == (200, 77)


def test_minus_infinity_is_the_worst(monkeypatch, device):
    """Also of a group that is filled up with it: no class outside of the scores comes out."""
    monkeypatch.setattr(candidates, "_FEW", 0)
    scores = torch.full((300, 130), -torch.inf, device=device)
    scores[250, 100] = 0.5
    best = best_candidates(scores, 20)
    assert (int(best.regions[0]), int(best.classes[0])) == (250, 100)
    assert int(best.classes.max()) < 130


def test_a_gpu_is_not_waited_for_and_few_scores_are_copied(monkeypatch):
    scores = matrix((4000, 1203))
    waits = Waits().watch(monkeypatch)
    with LargestTensor() as largest, waits:
        best_candidates(scores, 300)
    assert not waits.of
    assert largest.elements < scores.numel() / 10


def test_gradients_flow_into_the_scores():
    scores = matrix((40, 9)).requires_grad_()
    best = best_candidates(scores, 7)
    best.scores.sum().backward()
    expected = torch.zeros(40, 9)
    expected[best.regions, best.classes] = 1
    assert torch.equal(scores.grad, expected)
