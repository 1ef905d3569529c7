"""AP of every class at once, on the images as they are; no loop over classes.

Shape shorthand: n detections, T IoU thresholds, K classes.
"""

from __future__ import annotations

import numpy as np

from lt_det.evaluation.analysis.recall_thresholds import RECALL_THRESHOLDS, thresholds_reached


def plain_aps(
    classes: np.ndarray, found: np.ndarray, counted: np.ndarray, numbers: np.ndarray
) -> np.ndarray:
    """Return ``(T, K)`` AP in percent; NaN for a class without an object.

    Args:
        classes: ``(n,)`` rows, rising; the detections of a class come best first.
        found: ``(n, T)`` bool, whether an object was found; at most as many as there are.
        counted: ``(n, T)`` bool, whether a detection counts: as found, or as false.
        numbers: ``(K,)`` objects.
    """
    aps = np.repeat(np.where(numbers > 0, 0.0, np.nan)[None], found.shape[1], axis=0)
    ever = np.flatnonzero(found.any(axis=1) & (numbers > 0)[classes])
    if not len(ever):
        return aps
    always = counted.all(axis=1)
    before = np.append(0, np.cumsum(always))
    partly = np.flatnonzero(counted.any(axis=1) & ~always)
    starts = np.searchsorted(classes, np.arange(len(numbers)))
    for t in range(found.shape[1]):
        rows = ever[found[ever, t]]
        own = classes[rows]
        first = starts[own]
        extra = np.append(0, np.cumsum(counted[partly, t]))
        all_ = before[rows + 1] - before[first]
        all_ += extra[np.searchsorted(partly, rows, side="right")]
        all_ -= extra[np.searchsorted(partly, first)]
        begins = np.flatnonzero(np.append(True, own[1:] != own[:-1])[: len(own)])
        lengths = np.diff(np.append(begins, len(own)))
        true = np.arange(len(own)) - np.repeat(begins, lengths) + 1
        precision = _highest_from_here(true / np.maximum(all_, 1), own)
        more = thresholds_reached(true / numbers[own])
        more[1:] -= np.where(own[1:] == own[:-1], more[:-1], 0)
        sums = np.bincount(own, weights=more * precision, minlength=len(numbers))
        aps[t] = np.where(numbers > 0, 100 * sums / len(RECALL_THRESHOLDS), np.nan)
    return aps


def _highest_from_here(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return for each value the highest of it and the later ones of its class; classes rise."""
    if not len(values) or classes[0] == classes[-1]:
        return np.maximum.accumulate(values[::-1])[::-1]
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.arange(len(values))
    # Backwards each class starts above all before it.
    ranks += (classes[-1] - classes).astype(np.int64) * len(values)
    highest = np.maximum.accumulate(ranks[::-1])[::-1]
    return values[order[highest % len(values)]]
