"""AP of all classes at once, and AP of resamples at some places of the curve."""

from __future__ import annotations

import numpy as np
import pytest

from lt_det.evaluation.analysis.matches import Matches
from lt_det.evaluation.analysis.objects import ObjectPlaces
from lt_det.evaluation.analysis.plain_ap import plain_aps
from lt_det.evaluation.analysis.weighted_ap import threshold_aps

NUM_IMAGES, NUM_CLASSES, THRESHOLDS = 40, 6, 10


def made(seed, *, per_class):
    """Return objects and matches; class 1 has no object, class 2 no detection that finds one."""
    rng = np.random.default_rng(seed)
    classes = np.repeat(np.arange(NUM_CLASSES), per_class)
    scores = -np.sort(-rng.random((NUM_CLASSES, per_class)).round(2), axis=1).ravel()
    level = rng.integers(-6, THRESHOLDS + 1, size=len(classes))
    level[(classes == 1) | (classes == 2)] = 0
    found = np.arange(THRESHOLDS) < level[:, None]
    counted = found | (rng.random((len(classes), 1)) < 0.8)
    counted[::7, 5:] |= True
    images = rng.integers(NUM_IMAGES, size=len(classes))
    matches = Matches(classes.astype(np.int32), images.astype(np.int32), scores, found, counted)
    # Every object that is found, and some more.
    rows = np.flatnonzero(found[:, 0])
    extra = rng.integers(NUM_IMAGES, size=20)
    of_extra = np.array([0, 2, 3, 4])[rng.integers(4, size=20)]
    objects = ObjectPlaces(
        image_ids=np.arange(NUM_IMAGES),
        category_ids=np.arange(NUM_CLASSES),
        images=np.append(images[rows], extra),
        classes=np.append(classes[rows], of_extra),
        ignored=np.zeros(len(rows) + 20, dtype=bool),
    )
    return objects, matches


def by_hand(found, counted, number):
    """Return AP in percent of one class at one threshold, in the words of the metric."""
    true, false, precisions, recalls = 0, 0, [], []
    for hit, counts in zip(found.tolist(), counted.tolist()):
        true, false = true + hit, false + (counts and not hit)
        precisions.append(true / max(true + false, 1))
        recalls.append(true / number)
    at = [
        max((p for p, r in zip(precisions, recalls) if r >= threshold and r > 0), default=0.0)
        for threshold in np.linspace(0.0, 1.0, 101)
    ]
    return 100 * sum(at) / 101


@pytest.mark.parametrize("seed", range(3))
def test_it_equals_the_metric_class_by_class(seed):
    objects, matches = made(seed, per_class=30)
    numbers = np.bincount(objects.classes, minlength=NUM_CLASSES)
    aps = plain_aps(matches.classes, matches.found, matches.counted, numbers)
    once = np.ones((1, NUM_IMAGES))
    np.testing.assert_allclose(aps, threshold_aps(objects, matches, once)[:, 0], atol=1e-11)
    assert np.isnan(aps[:, 1]).all()
    assert (aps[:, 2] == 0).all()
    for k in (0, 3, 4, 5):
        own = matches.classes == k
        for t in range(THRESHOLDS):
            expected = by_hand(matches.found[own, t], matches.counted[own, t], numbers[k])
            assert aps[t, k] == pytest.approx(expected, abs=1e-10)


def test_nothing_at_all():
    none = np.zeros((0, THRESHOLDS), dtype=bool)
    aps = plain_aps(np.zeros(0, dtype=np.int32), none, none, np.array([0, 3]))
    assert np.isnan(aps[:, 0]).all()
    assert (aps[:, 1] == 0).all()


def test_places_change_nothing_where_they_hold_all():
    objects, matches = made(4, per_class=30)
    weights = np.random.default_rng(0).poisson(1, size=(20, NUM_IMAGES))
    exact = threshold_aps(objects, matches, weights)
    np.testing.assert_array_equal(threshold_aps(objects, matches, weights, places=30), exact)


def test_some_places_of_a_long_curve_are_near():
    objects, matches = made(5, per_class=1500)
    weights = np.random.default_rng(0).poisson(1, size=(20, NUM_IMAGES))
    exact = threshold_aps(objects, matches, weights).mean(axis=0)
    near = threshold_aps(objects, matches, weights, places=256).mean(axis=0)
    there = ~np.isnan(exact)
    gaps = (exact - near)[there]
    assert (there == ~np.isnan(near)).all()
    # Each of the 101 thresholds is read at most one place too late, no two of them over the same
    # place: together no more than the whole fall of the precision, over 101.
    assert gaps.min() > -1e-9
    assert 0 < gaps.max() < 100 / 101
    # What an interval is made of:
    spread = np.nanstd(exact, axis=0) - np.nanstd(near, axis=0)
    assert np.nanmax(np.abs(spread)) < 0.05
