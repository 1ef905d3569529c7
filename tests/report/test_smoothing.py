"""The smooth curve over the frequency of classes, against one class after another."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lt_det.report.smoothing import smooth

COUNTS = np.array([1.0, 3.0, 10.0, 40.0, 200.0, 1000.0])
FIGURES = np.array([[5.0, 1.0, 20.0, 30.0, 25.0, 60.0], [6.0, 2.0, 21.0, 31.0, 26.0, 61.0]])


def test_values_are_means_weighted_by_the_distance_of_the_logarithms():
    found = smooth(COUNTS, FIGURES)
    width = (math.log(1000) - math.log(1)) / 10
    assert found.counts[0] == pytest.approx(1)
    assert found.counts[-1] == pytest.approx(1000)
    for row, figures in zip(found.values, FIGURES):
        for place, value in zip(found.counts, row):
            near = [math.exp(-0.5 * (math.log(place / n) / width) ** 2) for n in COUNTS]
            if sum(near) > 0.02:
                expected = sum(w * f for w, f in zip(near, figures)) / sum(near)
                assert value == pytest.approx(expected)


def test_the_band_is_around_the_curve_and_the_same_each_time():
    found, again = smooth(COUNTS, FIGURES, seed=3), smooth(COUNTS, FIGURES, seed=3)
    known = np.isfinite(found.low)
    assert known.any()
    assert (found.low[known] <= found.values[known] + 1e-9).all()
    assert (found.high[known] >= found.values[known] - 1e-9).all()
    assert (found.high - found.low)[known].max() > 1
    np.testing.assert_array_equal(found.low, again.low)
    # The rows are resampled with the same classes.
    np.testing.assert_allclose(found.low[1] - found.low[0], 1.0)


def test_equal_classes_give_a_line_without_a_band():
    found = smooth(COUNTS, np.full((1, 6), 7.0))
    for part in (found.values, found.low, found.high):
        np.testing.assert_allclose(part[np.isfinite(part)], 7.0)


def test_what_is_not_known_is_left_out():
    more = np.concatenate([COUNTS, [0.0, np.nan, np.inf, 50.0]])
    figures = np.concatenate([FIGURES, np.full((2, 3), 99.0), np.full((2, 1), np.nan)], axis=1)
    found = smooth(more, figures)
    assert np.isfinite(found.counts).all()
    np.testing.assert_allclose(found.values, smooth(COUNTS, FIGURES).values)


@pytest.mark.parametrize(
    ("counts", "figures"),
    [
        (COUNTS[:3], FIGURES[:, :3]),
        (np.array([0.0, 1.0, 2.0, 3.0]), FIGURES[:, :4]),
        (COUNTS[:4], np.array([[1.0, 2.0, 3.0, np.nan]])),
        (COUNTS, np.zeros((0, 6))),
    ],
)
def test_fewer_than_four_classes_have_no_curve(counts, figures):
    assert smooth(counts, figures) is None
    assert smooth(COUNTS[:4], FIGURES[:, :4]) is not None
