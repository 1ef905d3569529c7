"""AP of each class on weighted images: on a part of them, or on resamples of a bootstrap.

An image of weight 2 counts as if it were there twice, one of weight 0 as if it were not.

Shape shorthand: B weightings, I images, K classes, T = 10 thresholds, n detections of a class, m of
them that find something.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lt_det.evaluation.analysis.matches import Matches
from lt_det.evaluation.analysis.objects import ObjectPlaces

#: Metric -> group of the classes that it is the mean of; "" is all.
AP_METRICS: Mapping[str, str] = {"AP": "", "APr": "r", "APc": "c", "APf": "f"}
#: The metric's.
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
# Weights of detections that are held at once.
_AT_ONCE = 2**23


def class_aps(
    objects: ObjectPlaces,
    matches: Matches,
    weights: np.ndarray,
    *,
    classes: Sequence[int] | None = None,
) -> np.ndarray:
    """Return ``(B, K)`` AP in percent, mean over the IoU thresholds; as :func:`threshold_aps`."""
    return threshold_aps(objects, matches, weights, classes=classes).mean(axis=0)


def threshold_aps(
    objects: ObjectPlaces,
    matches: Matches,
    weights: np.ndarray,
    *,
    classes: Sequence[int] | None = None,
) -> np.ndarray:
    """Return ``(T, B, K)`` AP in percent, NaN where the images of a weighting have no object.

    Args:
        objects: ground truth.
        matches: judged detections.
        weights: ``(B, I)`` whole numbers >= 0.
        classes: rows of those to compute, the others are NaN; None is all.
    """
    num_classes = len(objects.category_ids)
    of_images = np.ascontiguousarray(np.asarray(weights, dtype=np.float32).T)  # (I, B)
    aps = np.full((matches.found.shape[1], len(weights), num_classes), np.nan)
    to_find = _to_find(objects, of_images)  # (K, B)
    ends = np.searchsorted(matches.classes, np.arange(num_classes + 1))
    for k in range(num_classes) if classes is None else classes:
        rows = slice(ends[k], ends[k + 1])
        defined = np.flatnonzero(to_find[k] > 0)
        found, counted = matches.found[rows], matches.counted[rows]
        images = matches.images[rows]
        step = max(_AT_ONCE // max(rows.stop - rows.start, 1), 1)
        for begin in range(0, len(defined), step):
            some = defined[begin : begin + step]
            # Without a copy where it is all of them.
            part = of_images if len(some) == len(weights) else of_images[:, some]
            aps[:, some, k] = curve_aps(found, counted, images, part, to_find[k, some])
    return aps


def curve_aps(
    found: np.ndarray,
    counted: np.ndarray,
    images: np.ndarray,
    weights: np.ndarray,
    to_find: np.ndarray,
) -> np.ndarray:
    """Return ``(T, B)`` AP in percent of one curve at each IoU threshold.

    Args:
        found: ``(n, T)`` bool, best first.
        counted: ``(n, T)`` bool.
        images: ``(n,)`` rows.
        weights: ``(I, B)`` float32 whole numbers; those of the detections add up to below 2^24.
        to_find: ``(B,)`` weight of the objects, above 0.
    """
    aps = np.zeros((found.shape[1], len(to_find)))
    places = np.flatnonzero(found.any(axis=1))  # the precision is highest at these
    if not len(places):
        return aps
    last = places[-1] + 1  # what comes later changes nothing
    found, counted, images = found[:last], counted[:last], images[:last]
    always = counted.all(axis=1)
    summed = _sums_up_to(places, np.flatnonzero(always), images, weights)
    at_places = weights[images[places]]
    partly = np.flatnonzero(counted.any(axis=1) & ~always)
    for t in range(found.shape[1]):
        some = np.flatnonzero(found[places, t])
        if not len(some):
            break  # higher thresholds find nothing either
        all_ = summed[some]
        extra = partly[counted[partly, t]]
        if len(extra):
            all_ = all_ + _sums_up_to(places[some], extra, images, weights)
        true = np.cumsum(at_places[some], axis=0, dtype=np.float64)
        aps[t] = 100 * _area(true, all_, to_find)
    return aps


def _to_find(objects: ObjectPlaces, weights: np.ndarray) -> np.ndarray:
    """Return ``(K, B)`` float64 weight of the objects of each class."""
    kept = np.flatnonzero(~objects.ignored)
    kept = kept[np.argsort(objects.classes[kept], kind="stable")]
    sums = np.zeros((len(objects.category_ids), weights.shape[1]))
    classes, starts = np.unique(objects.classes[kept], return_index=True)
    for k, images in zip(classes.tolist(), np.split(objects.images[kept], starts[1:])):
        sums[k] = weights[images].sum(axis=0, dtype=np.float64)
    return sums


def _sums_up_to(
    places: np.ndarray, rows: np.ndarray, images: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return ``(m, B)`` float64 weight of the ``rows`` up to each place; both are rising."""
    ends = np.searchsorted(rows, places, side="right")
    starts = np.append(0, ends[:-1])
    rows = rows[: ends[-1]]
    there = np.flatnonzero(ends > starts)
    sums = np.zeros((len(places), weights.shape[1]))
    if len(there):
        sums[there] = np.add.reduceat(weights[images[rows]], starts[there], axis=0)
    return sums.cumsum(axis=0)


def _area(true: np.ndarray, all_: np.ndarray, to_find: np.ndarray) -> np.ndarray:
    """Return ``(B,)`` the mean of the precision over the recall thresholds.

    Args:
        true: ``(m, B)`` weight of what was found up to each detection that finds something.
        all_: ``(m, B)`` weight of all detections up to there.
        to_find: ``(B,)`` weight of the objects.
    """
    precision = true / np.maximum(all_, 1.0)
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    # Recall 0 is reached at once, whatever comes first.
    reached = np.where(true > 0, _thresholds_reached(true / to_find), 0)
    more = np.diff(reached, axis=0, prepend=0)
    return (more * precision).sum(axis=0) / len(RECALL_THRESHOLDS)


def _thresholds_reached(recall: np.ndarray) -> np.ndarray:
    """Return how many of the recall thresholds are at most each recall, in [0, 1]."""
    guess = np.minimum((recall * 100).astype(np.int64), 100)
    guess -= RECALL_THRESHOLDS[guess] > recall
    following = np.minimum(guess + 1, 100)
    guess += (RECALL_THRESHOLDS[following] <= recall) & (guess < 100)
    return guess + 1


def group_means(
    aps: np.ndarray,
    groups: Sequence[str | None],
    *,
    metrics: Mapping[str, str] = AP_METRICS,
) -> dict[str, np.ndarray]:
    """Return metric -> ``(B,)``, NaN where no class of the group is defined.

    Args:
        aps: ``(B, K)`` of :func:`class_aps`, or other figures of classes.
        groups: "r", "c" or "f" of each class.
        metrics: names, as :data:`AP_METRICS`.
    """
    means = {}
    for name, wanted in metrics.items():
        part = aps[:, [not wanted or group == wanted for group in groups]]
        number = (~np.isnan(part)).sum(axis=1)
        total = np.nansum(part, axis=1)
        means[name] = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    return means
