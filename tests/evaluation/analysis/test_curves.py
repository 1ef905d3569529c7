"""Curves of many classes: how they are cut into blocks changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from lt_det.evaluation.analysis import curves
from lt_det.evaluation.analysis.matches import Matches
from lt_det.evaluation.analysis.weighted_ap import threshold_aps
from tests.evaluation.analysis.test_plain_ap import NUM_CLASSES, NUM_IMAGES, THRESHOLDS, made


@pytest.mark.parametrize("places", [None, 9])
@pytest.mark.parametrize(("name", "value"), [("_AT_ONCE", 1), ("_HELD", 1), ("MOST_IN_TABLE", 40)])
def test_blocks_change_nothing(monkeypatch, name, value, places):
    objects, matches = made(6, per_class=60)
    weights = np.random.default_rng(1).poisson(1, size=(7, NUM_IMAGES))
    expected = threshold_aps(objects, matches, weights, places=places)
    monkeypatch.setattr(curves, name, value)
    found = threshold_aps(objects, matches, weights, places=places)
    np.testing.assert_array_equal(found, expected)
    some = threshold_aps(objects, matches, weights, places=places, classes=[0, 4])
    np.testing.assert_array_equal(some[..., [0, 4]], expected[..., [0, 4]])
    assert np.isnan(some[..., [1, 2, 3, 5]]).all()


def test_places_are_spread_evenly():
    for number in range(1, 40):
        for most in range(1, 12):
            kept = np.flatnonzero(curves._evenly(np.full(number, 3), most))
            every = np.arange(1, most + 1) * number // most - 1
            np.testing.assert_array_equal(kept, every if number > most else np.arange(number))


def test_nothing_found_and_no_weightings():
    objects, matches = made(7, per_class=5)
    weights = np.ones((2, NUM_IMAGES))
    nothing = Matches(*(column[:0] for column in vars(matches).values()))
    missed = Matches(*list(vars(matches).values())[:3], matches.found & False, matches.counted)
    for one in (nothing, missed):
        aps = threshold_aps(objects, one, weights)
        numbers = np.bincount(objects.classes, minlength=NUM_CLASSES)
        np.testing.assert_array_equal(aps[0], np.where([numbers > 0] * 2, 0.0, np.nan))
    assert threshold_aps(objects, matches, weights[:0]).shape == (THRESHOLDS, 0, NUM_CLASSES)
