"""AP of each class on weighted images: on a part of them, or on resamples of a bootstrap.

An image of weight 2 counts as if it were there twice, one of weight 0 as if it were not.

Shape shorthand: B weightings, I images, K classes, T = 10 thresholds, n detections of a class, m of
them that find something.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from lt_det.evaluation.analysis.matches import Matches
from lt_det.evaluation.analysis.objects import ObjectPlaces

#: Metric -> group of the classes that it is the mean of; "" is all.
AP_METRICS: Mapping[str, str] = {"AP": "", "APr": "r", "APc": "c", "APf": "f"}
#: The metric's.
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
# Levels, times places, times weightings, that are held, and that are worked on at once: those stay
# near to the processor.
_HELD, _AT_ONCE = 2**23, 2**15


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
    places: int | None = None,
) -> np.ndarray:
    """Return ``(T, B, K)`` AP in percent, NaN where the images of a weighting have no object.

    Args:
        objects: ground truth.
        matches: judged detections.
        weights: ``(B, I)`` whole numbers >= 0.
        classes: rows of those to compute, the others are NaN; None is all.
        places: of a curve at which its precision is looked at, for a class that finds more; AP
            comes out a little low then. None looks everywhere.
    """
    num_classes = len(objects.category_ids)
    of_images = np.ascontiguousarray(np.asarray(weights, dtype=np.float32).T)  # (I, B)
    aps = np.full((matches.found.shape[1], len(weights), num_classes), np.nan)
    to_find = _to_find(objects, of_images)  # (K, B)
    ends = np.searchsorted(matches.classes, np.arange(num_classes + 1))
    for k in range(num_classes) if classes is None else classes:
        rows, there = slice(ends[k], ends[k + 1]), to_find[k] > 0
        aps[:, there, k] = 0
        if there.any() and matches.found[rows].any():
            curve = _Curve.of(
                matches.found[rows], matches.counted[rows], matches.images[rows], places=places
            )
            of_class = curve.aps(of_images, np.maximum(to_find[k], 1))
            aps[:, :, k] = np.where(there, of_class, np.nan)
    return aps


@dataclass(frozen=True)
class _Curve:
    """Detections of a class, best first, cut at the m places where its precision is looked at.

    The precision at a level is highest where something is found there, so each level has places of
    its own, n of them; the last is repeated where there are fewer, which changes nothing.

    Attributes:
        places: ``(T, n)`` of each level among the m places.
        always: images of the detections that count at all levels, and ``(m,)`` how many of these
            come up to each place.
        found: likewise of those that find something, level by level; ``(T * n,)``.
        partly: likewise of those that count at some levels.
    """

    places: np.ndarray
    always: tuple[np.ndarray, np.ndarray]
    found: tuple[np.ndarray, np.ndarray]
    partly: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(
        cls, found: np.ndarray, counted: np.ndarray, images: np.ndarray, *, places: int | None
    ) -> _Curve:
        """Return the curve of N detections.

        Args:
            found: ``(N, T)`` bool, best first; something is found.
            counted: ``(N, T)`` bool.
            images: ``(N,)`` rows.
            places: most m.
        """
        marks = np.flatnonzero(found.any(axis=1))
        if places is not None and len(marks) > places:
            marks = marks[np.arange(1, places + 1) * len(marks) // places - 1]
        last = marks[-1] + 1  # what comes later changes nothing
        found, counted, images = found[:last], counted[:last], images[:last]
        always = counted.all(axis=1)

        def by_level(which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            levels, rows = np.nonzero(which.T)
            of_marks = np.arange(which.shape[1])[:, None] * last + marks
            return images[rows], np.searchsorted(levels * last + rows, of_marks, side="right")

        true, partly = by_level(found), by_level(counted & ~always[:, None])
        ends = true[1].ravel()
        is_new = (np.diff(ends, prepend=0) > 0).reshape(true[1].shape)
        numbers = is_new.sum(axis=1, keepdims=True)
        own = np.argsort(~is_new, axis=1, kind="stable")[:, : numbers.max()]
        own = np.where(np.arange(own.shape[1]) < numbers, own, len(marks) - 1)
        return cls(
            places=own,
            always=(images[always], np.cumsum(always)[marks]),
            found=(true[0], np.take_along_axis(true[1], own, axis=1).ravel()),
            partly=(partly[0], np.take_along_axis(partly[1], own, axis=1).ravel()),
        )

    def aps(self, weights: np.ndarray, to_find: np.ndarray) -> np.ndarray:
        """Return ``(T, B)`` AP in percent.

        Args:
            weights: ``(I, B)`` float32 whole numbers; those of the detections add up to below 2^24.
            to_find: ``(B,)`` weight of the objects, above 0.
        """
        number, width = self.places.shape
        aps = np.zeros((number, len(to_find)))
        step = max(_HELD // self.places.size, 1)
        for begin in range(0, len(to_find), step):
            some = slice(begin, begin + step)
            table = weights if step >= len(to_find) else np.ascontiguousarray(weights[:, some])
            # Sums of whole numbers: without rounding.
            always = _segment_sums(table, *self.always).cumsum(0).numpy()
            found, partly = (
                _segment_sums(table, *one).reshape(number, width, -1)
                for one in (self.found, self.partly)
            )
            reached = _Reached.of(to_find[some], most=int(found.sum(1).max()), size=found.numel())
            small = max(_AT_ONCE // (width * table.shape[1]), 1)
            for first in range(0, number, small):
                part = slice(first, first + small)
                true = found[part].cumsum(1, dtype=torch.float64).numpy()
                counted = partly[part].cumsum(1).numpy()
                counted += always[self.places[part]]
                aps[part, some] = 100 * _areas(true, counted, reached(true))
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


def _segment_sums(table: np.ndarray, rows: np.ndarray, ends: np.ndarray) -> torch.Tensor:
    """Return ``(m, B)`` float32 sums of rows of a table, of each segment of the rows.

    Args:
        table: ``(I, B)`` float32.
        rows: of the table, some more than once.
        ends: ``(m,)`` of the segments in ``rows``, rising.
    """
    if not len(rows):
        return torch.zeros((len(ends), table.shape[1]))
    starts = torch.from_numpy(np.append(0, ends[:-1]))
    chosen = torch.from_numpy(rows.astype(np.int64))
    # Without a copy of the chosen rows.
    return embedding_bag(chosen, torch.from_numpy(table), starts, mode="sum")


def _areas(true: np.ndarray, counted: np.ndarray, reached: np.ndarray) -> np.ndarray:
    """Return ``(T, B)`` the mean of the precision over the recall thresholds.

    Where nothing is found the precision falls and the recall stays, so such places change nothing.

    Args:
        true: ``(T, n, B)`` float64 weight of what is found up to each place.
        counted: ``(T, n, B)`` float32 likewise of all detections; changed.
        reached: ``(T, n, B)`` float64 recall thresholds there; 0 where nothing is found.
    """
    precision = true / np.maximum(counted, 1, out=counted)
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    total = reached[:, 0] * highest[:, 0]
    total += np.einsum("tnb,tnb->tb", np.diff(reached, axis=1), highest[:, 1:])
    return total / len(RECALL_THRESHOLDS)


@dataclass(frozen=True)
class _Reached:
    """Recall thresholds that weights reach; 0 for none found.

    Attributes:
        to_find: ``(B,)`` weight of the objects, above 0.
        table: ``(B, W)`` float64 for each weight; None where too many could occur.
    """

    to_find: np.ndarray
    table: np.ndarray | None

    @classmethod
    def of(cls, to_find: np.ndarray, *, most: int, size: int) -> _Reached:
        """Return it for weights up to ``most``, of which ``size`` are asked for."""
        if most * len(to_find) >= size:
            return cls(to_find, None)
        weights = np.arange(most + 1)
        recall = weights / np.maximum(to_find[:, None], weights)
        return cls(to_find, thresholds_reached(recall) * (weights > 0.0))

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Return ``(T, n, B)`` float64 of as many weights."""
        if self.table is None:
            return np.where(weights > 0, thresholds_reached(weights / self.to_find), 0.0)
        starts = np.arange(len(self.table)) * self.table.shape[1]
        return self.table.ravel().take(weights.astype(np.int64) + starts, mode="clip")


def thresholds_reached(recall: np.ndarray) -> np.ndarray:
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
