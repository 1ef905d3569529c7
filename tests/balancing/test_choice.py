"""The choice takes no luck for skill, and finds what is there."""

from __future__ import annotations

import numpy as np
import pytest

from lt_det.balancing.candidates import LEVELS, Candidate
from lt_det.balancing.choice import (
    Objective,
    balanced_halves,
    choose,
    cross_fitted,
    resamples,
)
from lt_det.balancing.outcome import Tried, decide
from lt_det.balancing.replay import PostProcessing
from lt_det.balancing.truth import BoxTruth
from lt_det.evaluation.analysis.matches import Matches
from lt_det.evaluation.analysis.objects import Objects
from lt_det.evaluation.analysis.resampling import interval

GROUPS = ["r"] * 8 + ["c"] * 8 + ["f"] * 8
NUM_IMAGES = 120


def world(seed, *, candidates=24, gain=0.0):
    """Return ground truth and what each candidate found, all alike but for luck; the last 3 gain.

    How hard an object is to find is shared by all candidates, the rest is noise of their own.
    """
    rng = np.random.default_rng(seed)
    has = rng.random((NUM_IMAGES, len(GROUPS))) < 0.15
    images, classes = np.nonzero(has)
    objects = Objects(
        image_ids=np.arange(NUM_IMAGES),
        category_ids=np.arange(len(GROUPS)),
        images=images,
        classes=classes,
        boxes=np.zeros((len(images), 4)),
        ignored=np.zeros(len(images), dtype=bool),
        open_pairs=np.zeros(0, dtype=np.int64),
        truth=None,
    )
    hardness = rng.normal(0, 2.5, len(images))
    tried = []
    for i in range(candidates):
        better = gain * (i >= candidates - 3)
        quality = 3 + better - hardness + rng.normal(0, 1.5, len(images))
        false = 2 * len(images)
        found = np.zeros((len(images) + false, 10), dtype=bool)
        found[: len(images)] = quality[:, None] > np.arange(10)
        column = Matches(
            np.concatenate([classes, rng.integers(0, len(GROUPS), false)]).astype(np.int32),
            np.concatenate([images, rng.integers(0, NUM_IMAGES, false)]).astype(np.int32),
            np.concatenate([rng.normal(1.0 + better / 3, 1, len(images)), rng.normal(0, 1, false)]),
            found,
            np.ones_like(found),
        )
        level = LEVELS[0 if i == 0 else 1 if i < 5 else 2 if i < 11 else 3]
        name = "as trained" if level == "post-processing" else level
        tried.append(
            Tried(
                Candidate(str(i), name, []),
                PostProcessing(0.0, 0.5),
                Matches.joined([column]),
                i == 0,
            )
        )
    return BoxTruth(objects), tried


def played(seed, **options):
    """Return what a whole run would say: chosen index, and the interval of the gain."""
    truth, tried = world(seed, **options)
    half = balanced_halves(truth.images_by_class(), total=NUM_IMAGES, seed=seed)
    outcome = decide(tried, truth, half, GROUPS, Objective("APr", "AP", 1.0), seed=seed)
    return outcome.chosen, outcome.gain["APr"][1:]


@pytest.mark.slow
def test_equal_candidates_seldom_gain():
    """All equal in truth: a gain is claimed in 5 % of the worlds at most, beyond chance."""
    worlds = 60
    results = [played(seed) for seed in range(worlds)]
    claims = sum(low > 0 for _, (low, _) in results)
    moved = sum(index != 0 for index, _ in results)
    print(f"of {worlds} worlds: a gain claimed in {claims}, another candidate chosen in {moved}")
    assert claims <= 4  # 2.5 % one-sided are 1.5, and two standard deviations more are 4
    assert moved <= 6  # 5 % of 60 are 3, and two standard deviations more are 6


@pytest.mark.slow
def test_a_gain_is_found():
    results = [played(seed, gain=2.0) for seed in range(5)]
    assert all(index >= 21 for index, _ in results)
    assert all(low > 0 for _, (low, _) in results)


RARE = Objective("APr", "", 0.0)


def two_candidates(values, *, levels=(0, 1), objective=RARE):
    point = np.asarray(values, dtype=float)
    rng = np.random.default_rng(0)
    drawn = point[:, None] + rng.normal(0, 0.1, (len(point), 100, point.shape[1]))
    return choose(point, drawn, levels, ["r", "f"], objective)


def test_a_floor_keeps_out_what_costs_too_much():
    values = [[10, 50], [30, 20], [20, 49.5]]
    levels = (0, 1, 1)
    assert two_candidates(values, levels=levels).index == 1
    kept = Objective("APr", "APf", 1.0)
    assert two_candidates(values, levels=levels, objective=kept).index == 2
    assert two_candidates(values[:2], objective=kept).index == 0


def test_the_simpler_of_equals_is_taken_and_said():
    found = two_candidates([[10, 50], [20, 50], [20.05, 50]], levels=(0, 2, 3))
    assert (found.index, found.best) == (1, 2)
    assert "luck" in found.reason
    assert two_candidates([[10, 50], [20, 50], [20, 50]], levels=(0, 2, 3)).reason == ""


def test_halves_are_balanced_by_class():
    rng = np.random.default_rng(0)
    by_class = [rng.choice(100, n, replace=False) for n in (1, 2, 2, 3, 6, 11, 40, 90)]
    half = balanced_halves(by_class, total=100, seed=1)
    for rows in by_class[1:]:
        assert abs(2 * half[rows].sum() - len(rows)) <= max(2, 0.1 * len(rows))
    assert 44 <= half.sum() <= 56
    assert half.tolist() == balanced_halves(by_class, total=100, seed=1).tolist()


def test_resamples_keep_the_size_of_each_half():
    half = np.arange(10) < 4
    weights = resamples(half, 50, seed=0)
    assert (weights[:, half].sum(axis=1) == 4).all()
    assert (weights[:, ~half].sum(axis=1) == 6).all()


def test_an_interval_is_around_the_figure():
    values = np.linspace(1, 3, 101)
    assert interval(values) == pytest.approx((1.05, 2.95))
    assert interval(values, around=1.5) == pytest.approx((0.55, 2.45))
    assert np.isnan(interval(np.array([np.nan]), around=1.0)).all()


def test_cross_fitted_gain_weighs_classes_alike():
    nan = np.nan
    first = (np.array([[10.0, nan]]), np.array([[30.0, nan]]))
    second = (np.array([[20.0, 50.0]]), np.array([[20.0, 40.0]]))
    gain = cross_fitted([first, second], ["r", "f"], RARE)
    assert gain["APr"][0] == pytest.approx(10)
    assert gain["APf"][0] == pytest.approx(-10)
    assert gain["AP"][0] == pytest.approx(0)


@pytest.mark.parametrize(
    "bad",
    [
        *(("mAP", "", 0.0), ("AP", "APx", 0.0), ("AP", "APf", -1.0), ("AP", "", float("nan"))),
        *(("few", "APf", 0.0), ("APr", "many", 0.0)),
    ],
)
def test_objectives_are_checked(bad):
    with pytest.raises(ValueError, match="objective"):
        Objective(*bad)
