"""AP of each class on weighted images: on a part of them, or on resamples of a bootstrap.

An image of weight 2 counts as if it were there twice, one of weight 0 as if it were not.

Shape shorthand: B weightings, I images, K classes, T = 10 thresholds, n detections of a class, m of
them that find something.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from lt_det.evaluation.analysis.matches import Matches
from lt_det.evaluation.analysis.objects import ObjectPlaces

#: The metric's.
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
# Places of found objects, times weightings, that are worked on at once.
_AT_ONCE = 2**16


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
        rows, there = slice(ends[k], ends[k + 1]), to_find[k] > 0
        if there.any():
            of_class = _curve_aps(
                matches.found[rows], matches.counted[rows], matches.images[rows], of_images,
                np.maximum(to_find[k], 1),
            )  # fmt: skip
            aps[:, :, k] = np.where(there, of_class, np.nan)
    return aps


def _curve_aps(
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
    counted, images = counted[:last], images[:last]
    found = found[places].T
    always = counted.all(axis=1)
    partly = np.flatnonzero(counted.any(axis=1) & ~always)
    own = weights[images[places]].T  # (B, m)
    sums = _sums_between(places, np.flatnonzero(always), images, weights)
    # That much is at work at once: it stays near to the processor.
    step = max(_AT_ONCE // len(places), 1)
    for begin in range(0, len(to_find), step):
        some = slice(begin, begin + step)
        all_ = _running_sums(sums[some])
        mine = np.ascontiguousarray(own[some])
        reached = _TableOfReached(to_find[some], mine.sum(axis=1).max())
        for t in range(len(found)):
            if not found[t].any():
                break  # higher thresholds find nothing either
            kept = counted[partly, t]
            total = all_
            if kept.any():
                extra = _sums_between(places, partly[kept], images, weights[:, some])
                total = all_ + _running_sums(extra)
            aps[t, some] = 100 * _area(_running_sums(mine * found[t]), total, reached)
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


def _sums_between(
    places: np.ndarray, rows: np.ndarray, images: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return ``(B, m)`` float32 weight of the ``rows`` from each place to the next; both rise."""
    ends = np.searchsorted(rows, places, side="right")
    starts = torch.from_numpy(np.append(0, ends[:-1]))
    chosen = torch.from_numpy(images[rows[: ends[-1]]].astype(np.int64))
    table = torch.from_numpy(np.ascontiguousarray(weights))
    # The sum of chosen rows of a table, without a copy of them.
    return embedding_bag(chosen, table, starts, mode="sum").numpy().T


def _running_sums(values: np.ndarray) -> np.ndarray:
    """Return ``(B, m)`` float64 running sums; whole numbers, so without rounding."""
    return torch.from_numpy(np.ascontiguousarray(values)).cumsum(1, dtype=torch.float64).numpy()


def _area(true: np.ndarray, all_: np.ndarray, reached: _TableOfReached) -> np.ndarray:
    """Return ``(B,)`` the mean of the precision over the recall thresholds.

    Where nothing is found the precision falls and the recall stays, so such places change nothing.

    Args:
        true: ``(B, m)`` weight of what was found up to each place.
        all_: ``(B, m)`` weight of all detections up to there.
        reached: recall thresholds, by weight.
    """
    backwards = np.empty_like(true)
    np.divide(true, np.maximum(all_, 1.0), out=backwards[:, ::-1])
    highest = torch.from_numpy(backwards).cummax(1).values.numpy()[:, ::-1]
    at_places = reached(true)
    total = at_places[:, 0] * highest[:, 0]
    more = at_places[:, 1:] - at_places[:, :-1]
    total += np.einsum("bm,bm->b", more, highest[:, 1:])
    return total / len(RECALL_THRESHOLDS)


class _TableOfReached:
    """How many recall thresholds each weight of found objects reaches, of B weightings."""

    def __init__(self, to_find: np.ndarray, most: float) -> None:
        """Compute it for the weights 0 to ``most``; ``to_find`` is ``(B,)``, above 0."""
        weights = np.arange(int(most) + 1)
        recall = weights / np.maximum(to_find[:, None], weights)
        table = thresholds_reached(recall).astype(np.float64)
        table[:, 0] = 0
        self._table = table.ravel()
        self._starts = (np.arange(len(to_find)) * len(weights))[:, None]

    def __call__(self, true: np.ndarray) -> np.ndarray:
        """Return ``(B, m)`` float64 number of thresholds at ``(B, m)`` weights."""
        return self._table.take(true.astype(np.int64) + self._starts)


def thresholds_reached(recall: np.ndarray) -> np.ndarray:
    """Return how many of the recall thresholds are at most each recall, in [0, 1]."""
    guess = np.minimum((recall * 100).astype(np.int64), 100)
    guess -= RECALL_THRESHOLDS[guess] > recall
    following = np.minimum(guess + 1, 100)
    guess += (RECALL_THRESHOLDS[following] <= recall) & (guess < 100)
    return guess + 1


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
