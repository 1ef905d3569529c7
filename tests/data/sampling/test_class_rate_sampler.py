"""Draws by class rates: the distribution, and the same stream from any start."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lt_det.data.sampling.class_rate_sampler import ClassRateSampler

LABELS = [0, 0, 0, 0, 2, 2, 3]  # no image of class 1


def draws(probabilities, count, **keys):
    sampler = ClassRateSampler(LABELS, probabilities, batch_size=4, seed=5, **keys)
    return np.array(list(itertools.islice(sampler, count)))


def test_classes_by_probability_and_images_evenly():
    drawn = draws(lambda: [0.2, 0.5, 0.2, 0.1], 8000)
    shares = np.bincount(drawn, minlength=7) / 8000
    # What class 1 would have had goes to the others.
    expected = [0.1] * 4 + [0.2, 0.2, 0.2]
    np.testing.assert_allclose(shares, expected, atol=0.02)


def test_probabilities_are_asked_once_a_batch():
    calls = []

    def probabilities():
        calls.append(1)
        return [1, 0, 0, 0] if len(calls) < 3 else [0, 0, 0, 1]

    assert [LABELS[i] for i in draws(probabilities, 12)] == [0] * 8 + [3] * 4
    assert len(calls) == 3


def test_stream_is_that_of_seed_and_rank():
    even = lambda: np.ones(4)  # noqa: E731
    assert (draws(even, 40) == draws(even, 40)).all()
    assert (draws(even, 40) != draws(even, 40, rank=1)).any()


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="labels is empty"):
        ClassRateSampler([], lambda: [1.0], batch_size=4, seed=0)
