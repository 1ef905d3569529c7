"""The exponential profile and its seeded subset."""

from __future__ import annotations

import numpy as np
import pytest

from lt_det.data.images.long_tail_subset import (
    exponential_counts,
    held_out_images,
    long_tailed_subset,
)


@pytest.mark.parametrize(
    ("max_count", "num_classes", "factor", "total", "last"),
    [
        # Sums and smallest classes as published for CIFAR-10-LT and CIFAR-100-LT.
        (5000, 10, 200, 11203, 25),
        (5000, 10, 100, 12406, 50),
        (5000, 10, 50, 13996, 100),
        (5000, 10, 10, 20431, 500),
        (500, 100, 200, 9502, 2),
        (500, 100, 100, 10847, 5),
        (500, 100, 50, 12608, 10),
        (500, 100, 10, 19573, 50),
    ],
)
def test_profile_is_that_of_the_papers(max_count, num_classes, factor, total, last):
    counts = exponential_counts(max_count, num_classes=num_classes, imbalance_factor=factor)
    assert (sum(counts), counts[0], counts[-1]) == (total, max_count, last)
    assert counts == sorted(counts, reverse=True)


def test_profile_of_cifar10_100():
    counts = exponential_counts(5000, num_classes=10, imbalance_factor=100)
    assert counts == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


LABELS = np.random.default_rng(1).permutation(np.repeat(np.arange(4), 100))


def subset(factor, seed=0, labels=LABELS):
    return long_tailed_subset(labels, num_classes=4, imbalance_factor=factor, seed=seed)


def test_subset_has_the_profile():
    counts = np.bincount(LABELS[subset(10)], minlength=4)
    assert counts.tolist() == exponential_counts(100, num_classes=4, imbalance_factor=10)


def test_seed_alone_decides_which_images_stay():
    assert np.array_equal(subset(10), subset(10))
    other = subset(10, seed=1)
    assert len(other) == len(subset(10))
    assert not np.array_equal(other, subset(10))


def test_a_larger_factor_keeps_some_of_the_same_images():
    assert set(subset(20)) < set(subset(10)) < set(subset(1))
    assert np.array_equal(subset(1), np.arange(400))


def test_images_are_drawn_not_the_first_ones():
    last = np.flatnonzero(LABELS == 3)
    kept = subset(10)
    assert sorted(set(last) & set(kept)) != last[:10].tolist()


def test_a_small_class_keeps_what_it_has():
    labels = np.array([0] * 50 + [1] * 3 + [2] * 50)
    kept = long_tailed_subset(labels, num_classes=3, imbalance_factor=4, seed=0)
    assert np.bincount(labels[kept]).tolist() == [50, 3, 12]


def test_a_class_would_be_empty():
    with pytest.raises(ValueError, match="can be 100 at most"):
        subset(101)
    with pytest.raises(ValueError, match="imbalance_factor must be at least 1, got 0.5"):
        subset(0.5)


def test_held_out_images_are_a_share_of_each_class():
    sizes = np.array([100, 40, 4, 2, 1, 0])
    labels = np.random.default_rng(5).permutation(np.repeat(np.arange(6), sizes))
    mask = held_out_images(labels, num_classes=6, share=0.1, seed=0)
    assert np.bincount(labels[mask], minlength=6).tolist() == [10, 4, 1, 1, 0, 0]
    again = held_out_images(labels, num_classes=6, share=0.1, seed=0)
    other = held_out_images(labels, num_classes=6, share=0.1, seed=1)
    assert (mask == again).all()
    assert (mask != other).any()
    most = held_out_images(labels, num_classes=6, share=0.99, seed=0)
    assert np.bincount(labels[~most], minlength=6).tolist() == [1, 1, 1, 1, 1, 0]
    assert not held_out_images(labels, num_classes=6, share=0.0, seed=0).any()
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"share must be in \[0, 1\)"):
            held_out_images(labels, num_classes=6, share=share, seed=0)
