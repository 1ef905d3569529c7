"""Accuracies, calibration and intervals against scalar re-statements."""

from __future__ import annotations

import numpy as np
import pytest

from lt_det.evaluation.classification.metrics import (
    bootstrap_intervals,
    class_accuracies,
    expected_calibration_error,
    likelihood_histogram,
    mean_accuracy,
    natural_accuracy,
)
from tests.reference import classification as reference

GENERATOR = np.random.default_rng(3)
NUM_CLASSES = 5
LABELS = GENERATOR.integers(0, NUM_CLASSES, 200)
PREDICTED = np.where(GENERATOR.random(200) < 0.6, LABELS, GENERATOR.integers(0, NUM_CLASSES, 200))
TRAIN_COUNTS = np.array([100, 50, 20, 5, 1])


def test_class_accuracies():
    found = class_accuracies(LABELS, PREDICTED, num_classes=NUM_CLASSES)
    expected = [
        reference.class_accuracy(LABELS.tolist(), PREDICTED.tolist(), c) for c in range(NUM_CLASSES)
    ]
    np.testing.assert_allclose(found, expected)


def test_equals_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    found = class_accuracies(LABELS, PREDICTED, num_classes=NUM_CLASSES)
    expected = metrics.recall_score(LABELS, PREDICTED, average=None)
    np.testing.assert_allclose(found, expected)
    balanced = metrics.balanced_accuracy_score(LABELS, PREDICTED)
    assert mean_accuracy(found, np.arange(NUM_CLASSES)) == pytest.approx(balanced)


def test_classes_without_images_are_left_out():
    found = class_accuracies(np.array([0, 0, 2]), np.array([0, 1, 2]), num_classes=4)
    np.testing.assert_array_equal(found, [0.5, np.nan, 1.0, np.nan])
    assert mean_accuracy(found, np.array([0, 1, 2])) == 0.75
    assert np.isnan(mean_accuracy(found, np.array([1, 3])))
    assert np.isnan(mean_accuracy(found, np.array([], dtype=int)))
    # Classes 0 and 2 alone: (3 * 0.5 + 1 * 1) / 4.
    assert natural_accuracy(found, np.array([3, 9, 1, 9])) == pytest.approx(2.5 / 4)
    assert np.isnan(natural_accuracy(found, np.array([0, 9, 0, 9])))


def test_natural_accuracy():
    found = natural_accuracy(
        class_accuracies(LABELS, PREDICTED, num_classes=NUM_CLASSES), TRAIN_COUNTS
    )
    expected = reference.natural_accuracy(
        LABELS.tolist(), PREDICTED.tolist(), TRAIN_COUNTS.tolist()
    )
    assert found == pytest.approx(expected)
    # On a test set distributed as the training set it is the plain accuracy.
    same = class_accuracies(LABELS, PREDICTED, num_classes=NUM_CLASSES)
    counts = np.bincount(LABELS, minlength=NUM_CLASSES)
    assert natural_accuracy(same, counts) == pytest.approx((LABELS == PREDICTED).mean())


@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_calibration_error(num_bins):
    confidence = np.concatenate([GENERATOR.random(97), [0.0, 1.0, 0.5]])
    # Gaps of neighbouring bins have other signs, or bins that are mixed up would not show.
    correct = np.ceil(confidence * num_bins) % 2 == 0
    found = expected_calibration_error(confidence, correct, num_bins=num_bins)
    expected = reference.calibration_error(confidence.tolist(), correct.tolist(), num_bins)
    assert found == pytest.approx(expected)
    if num_bins == 1:
        assert found == pytest.approx(abs(correct.mean() - confidence.mean()))


def test_calibration_of_single_precision_probabilities():
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.9], dtype=np.float32)
    correct = np.array([1, 1, 1, 1, 0], dtype=bool)
    assert expected_calibration_error(confidence, correct) == pytest.approx(0.1, abs=1e-6)
    assert np.isnan(expected_calibration_error(confidence[:0], correct[:0]))


def test_likelihood_histogram():
    values = np.array([0.0, 0.04, 0.051, 0.5, 0.99, 1.0])
    shares = likelihood_histogram(values, num_bins=20)
    assert shares.sum() == pytest.approx(1)
    assert shares[[0, 1, 10, 19]] * 6 == pytest.approx([2, 1, 1, 2])
    assert np.isnan(likelihood_histogram(values[:0])).all()


def test_intervals_are_those_of_resampled_images():
    accuracies = np.array([0.5, 0.9, np.nan, 1.0])
    num_images = np.array([40, 100, 0, 10])
    groups = {"many": np.array([0, 1]), "few": np.array([2, 3]), "none": np.array([2])}
    classes, of_groups = bootstrap_intervals(
        accuracies, num_images, groups, num_resamples=20000, confidence=0.9
    )
    # By resampling images one by one, as the bootstrap is told.
    generator = np.random.default_rng(7)
    first = np.repeat([0.0, 1.0], 20)
    second = np.concatenate([np.zeros(10), np.ones(90)])
    means = [[generator.choice(x, x.size).mean() for x in (first, second)] for _ in range(20000)]
    expected = np.quantile(means, [0.05, 0.95], axis=0).T
    np.testing.assert_allclose(classes[:2], expected, atol=0.013)
    group = np.quantile(np.mean(means, axis=1), [0.05, 0.95])
    np.testing.assert_allclose(of_groups["many"], group, atol=0.005)
    assert classes[3].tolist() == [1.0, 1.0]
    assert np.isnan(classes[2]).all()
    assert of_groups["few"] == (1.0, 1.0)
    assert np.isnan(of_groups["none"]).all()


def test_confidence_must_be_a_probability():
    with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got 95"):
        bootstrap_intervals(np.ones(1), np.ones(1, int), {}, confidence=95)
