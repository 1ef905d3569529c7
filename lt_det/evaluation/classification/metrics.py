"""Accuracies and calibration of a classifier by class and by group of classes; numpy only.

Groups after Liu et al., "Large-Scale Long-Tailed Recognition in an Open World", CVPR 2019: many,
medium and few training images. Natural accuracy after the Eureka paper (OpenReview 7Yhok3vJpU),
section 4. Calibration error after Guo et al., arXiv:1706.04599, section 2.

Shape shorthand: N test images, K classes. Accuracies are fractions here, percent in results.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def class_accuracies(labels: np.ndarray, predicted: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Return ``(K,)`` float64 shares of the images of each class that are predicted as it.

    NaN for a class without images.

    Args:
        labels: ``(N,)`` class ids.
        predicted: ``(N,)`` class ids.
        num_classes: K.
    """
    images = np.bincount(labels, minlength=num_classes).astype(np.float64)
    correct = np.bincount(labels[labels == predicted], minlength=num_classes)
    # 0 / 0 is the NaN that is wanted.
    with np.errstate(invalid="ignore"):
        return correct / images


def mean_accuracy(accuracies: np.ndarray, members: np.ndarray) -> float:
    """Return the mean over the classes ``members``, those without images left out.

    NaN if none is left; Kang et al.'s code has 0 there.

    Args:
        accuracies: ``(K,)``, of :func:`class_accuracies`.
        members: class ids.
    """
    chosen = accuracies[members]
    chosen = chosen[~np.isnan(chosen)]
    return float(chosen.mean()) if chosen.size else float("nan")


def natural_accuracy(accuracies: np.ndarray, train_counts: np.ndarray) -> float:
    """Return the accuracy on a test set distributed as the training set.

    ``sum(n_c a_c) / sum(n_c)`` over classes with test images; NaN if no such class was trained on.

    Args:
        accuracies: ``(K,)``, of :func:`class_accuracies`.
        train_counts: ``(K,)`` training images n_c.
    """
    seen = ~np.isnan(accuracies)
    weights = np.asarray(train_counts, dtype=np.float64)[seen]
    if not weights.sum():
        return float("nan")
    return float((weights * accuracies[seen]).sum() / weights.sum())


def expected_calibration_error(
    confidence: np.ndarray, correct: np.ndarray, *, num_bins: int = 15
) -> float:
    """Return the mean of ``|accuracy - confidence|`` over bins, weighted by their images.

    Args:
        confidence: ``(N,)`` probability of the predicted class, in [0, 1].
        correct: ``(N,)`` bool.
        num_bins: bins of equal width; an edge belongs to the bin below it.

    Returns:
        In [0, 1]; NaN without images.
    """
    if not len(confidence):
        return float("nan")
    bins = np.clip(np.ceil(confidence * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    # Each bin: (n_b / N) |sum(correct) - sum(confidence)| / n_b.
    gaps = np.bincount(bins, weights=correct - confidence.astype(np.float64), minlength=num_bins)
    return float(np.abs(gaps).sum() / len(confidence))


def likelihood_histogram(likelihood: np.ndarray, *, num_bins: int = 20) -> np.ndarray:
    """Return ``(num_bins,)`` shares of images by the probability of their own class.

    Bins of equal width over [0, 1], as in Fig. 4 and 5 of the Eureka paper; sum 1, NaN without
    images.

    Args:
        likelihood: ``(N,)`` in [0, 1].
        num_bins: number of bins.
    """
    counts, _ = np.histogram(likelihood, bins=num_bins, range=(0.0, 1.0))
    return counts / len(likelihood) if len(likelihood) else np.full(num_bins, np.nan)


def bootstrap_intervals(
    accuracies: np.ndarray,
    num_images: np.ndarray,
    groups: Mapping[str, np.ndarray],
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> tuple[np.ndarray, dict[str, tuple[float, float]]]:
    """Return percentile intervals of class accuracies and of their means over groups.

    The images of each class are resampled on their own. An image is right or wrong, so a resample
    of n images of which a share a is right has Binomial(n, a) right ones: that is what is drawn.

    Args:
        accuracies: ``(K,)``, NaN where there is no image.
        num_images: ``(K,)`` test images.
        groups: name -> class ids.
        confidence: probability of an interval, in (0, 1).
        num_resamples: draws.
        seed: of the draws.

    Returns:
        ``(K, 2)`` low and high of the classes, and name -> (low, high); NaN without images.

    Raises:
        ValueError: if ``confidence`` is not in (0, 1).
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    quantiles = ((1 - confidence) / 2, (1 + confidence) / 2)
    generator = np.random.default_rng(seed)
    seen = np.flatnonzero(num_images > 0)
    classes = np.full((len(accuracies), 2), np.nan)
    sums = {name: np.zeros(num_resamples) for name in groups}
    sizes = {name: np.isin(members, seen).sum() for name, members in groups.items()}
    of_class = [[name for name, members in groups.items() if c in members] for c in seen]
    # Class by class: thousands of classes by thousands of draws would not fit into memory.
    for class_id, names in zip(seen, of_class):
        n = num_images[class_id]
        drawn = generator.binomial(n, accuracies[class_id], size=num_resamples) / n
        classes[class_id] = np.quantile(drawn, quantiles)
        for name in names:
            sums[name] += drawn
    intervals = {}
    for name, total in sums.items():
        low, high = np.quantile(total / sizes[name], quantiles) if sizes[name] else (np.nan,) * 2
        intervals[name] = (float(low), float(high))
    return classes, intervals
