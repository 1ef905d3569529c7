"""AP of each class on weighted images: on a part of them, or on resamples of a bootstrap.

An image of weight 2 counts as if it were there twice, one of weight 0 as if it were not.

Shape shorthand: B weightings, I images, K classes, T = 10 thresholds, n detections of a class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lt_det.evaluation.analysis.matches import Matches
from lt_det.evaluation.analysis.objects import ObjectPlaces

#: The metric's.
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
# Weights of detections that are held at once.
_AT_ONCE = 2**22


def class_aps(
    objects: ObjectPlaces,
    matches: Matches,
    weights: np.ndarray,
    *,
    classes: Sequence[int] | None = None,
    num_thresholds: int | None = None,
) -> np.ndarray:
    """Return ``(B, K)`` AP in percent, NaN where the images of a weighting have no object.

    Args:
        objects: ground truth.
        matches: judged detections.
        weights: ``(B, I)`` whole numbers >= 0.
        classes: rows of those to compute, the others are NaN; None is all.
        num_thresholds: mean over the first so many IoU thresholds; 1 is AP50, None is all.
    """
    thresholds = slice(num_thresholds)
    weights = np.asarray(weights, dtype=np.float64)
    num_classes = len(objects.category_ids)
    aps = np.full((len(weights), num_classes), np.nan)
    kept = ~objects.ignored
    counts = np.zeros((len(objects.image_ids), num_classes))
    np.add.at(counts, (objects.images[kept], objects.classes[kept]), 1.0)
    to_find = weights @ counts  # (B, K)
    ends = np.searchsorted(matches.classes, np.arange(num_classes + 1))
    for k in range(num_classes) if classes is None else classes:
        rows = slice(ends[k], ends[k + 1])
        defined = np.flatnonzero(to_find[:, k] > 0)
        step = max(_AT_ONCE // max(rows.stop - rows.start, 1), 1)
        for begin in range(0, len(defined), step):
            some = defined[begin : begin + step]
            found = matches.found[rows, thresholds]
            if not found.any():
                aps[some, k] = 0.0
                continue
            of_detections = weights[some][:, matches.images[rows]]
            counted = matches.counted[rows, thresholds]
            aps[some, k] = curve_ap(found, counted, of_detections, to_find[some, k])
    return aps


def curve_ap(
    found: np.ndarray, counted: np.ndarray, of_detections: np.ndarray, to_find: np.ndarray
) -> np.ndarray:
    """Return ``(B,)`` AP in percent of one curve, mean over IoU thresholds.

    Args:
        found: ``(n, T)`` bool, best first, more thresholds never find more.
        counted: ``(n, T)`` bool.
        of_detections: ``(B, n)`` float64 weights.
        to_find: ``(B,)`` weight of the objects, above 0.
    """
    total = np.zeros(len(of_detections))
    all_counted = bool(counted.all())
    summed = of_detections.cumsum(axis=1)
    for t in range(found.shape[1]):
        places = np.flatnonzero(found[:, t])
        if not len(places):
            break  # higher thresholds find no more
        if not all_counted:
            summed = (of_detections * counted[:, t]).cumsum(axis=1)
        total += _area(of_detections[:, places].cumsum(axis=1), summed[:, places], to_find)
    return total * (100.0 / found.shape[1])


def _area(true: np.ndarray, all_: np.ndarray, to_find: np.ndarray) -> np.ndarray:
    """Return ``(B,)`` the mean of the precision over the recall thresholds.

    Args:
        true: ``(B, m)`` weight of what was found up to each detection that finds something; the
            precision is highest at these.
        all_: ``(B, m)`` weight of all detections up to there.
        to_find: ``(B,)`` weight of the objects.
    """
    precision = true / np.maximum(all_, 1.0)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALL_THRESHOLDS, true / to_find[:, None], side="right")
    # Recall 0 is reached at once, whatever comes first.
    reached = np.where(true > 0, reached, 0)
    more = np.diff(reached, axis=1, prepend=0)
    return (more * precision).sum(axis=1) / len(RECALL_THRESHOLDS)


def group_means(aps: np.ndarray, groups: Sequence[str | None]) -> dict[str, np.ndarray]:
    """Return "AP", "APr", "APc", "APf" -> ``(B,)``, NaN where no class of the group is defined.

    Args:
        aps: ``(B, K)`` of :func:`class_aps`.
        groups: "r", "c" or "f" of each class.
    """
    members: Mapping[str, np.ndarray] = {
        "AP": np.ones(aps.shape[1], dtype=bool),
        **{f"AP{g}": np.array([group == g for group in groups], dtype=bool) for g in "rcf"},
    }
    means = {}
    for name, of_group in members.items():
        part = aps[:, of_group]
        number = (~np.isnan(part)).sum(axis=1)
        total = np.nansum(part, axis=1)
        means[name] = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    return means
