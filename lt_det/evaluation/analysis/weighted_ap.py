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
        if there.any():
            curve = _Curve.of(
                matches.found[rows], matches.counted[rows], matches.images[rows], places=places
            )
            of_class = curve.aps(of_images, np.maximum(to_find[k], 1))
            aps[:, :, k] = np.where(there, of_class, np.nan)
    return aps


@dataclass(frozen=True)
class _Curve:
    """Detections of a class, best first, cut at the m places where its precision is looked at.

    Attributes:
        shape: T, m.
        thinned: whether something is found at other places, too.
        found: images of the detections that find something, level by level, and ``(T * m,)`` how
            many of these come up to each place.
        always: likewise of those that count at all levels; ``(m,)``.
        partly: likewise of those that count at some, level by level; ``(T * m,)``.
    """

    shape: tuple[int, int]
    thinned: bool
    found: tuple[np.ndarray, np.ndarray]
    always: tuple[np.ndarray, np.ndarray]
    partly: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(
        cls, found: np.ndarray, counted: np.ndarray, images: np.ndarray, *, places: int | None
    ) -> _Curve:
        """Return the curve of n detections.

        Args:
            found: ``(n, T)`` bool, best first.
            counted: ``(n, T)`` bool.
            images: ``(n,)`` rows.
            places: most m.
        """
        marks = np.flatnonzero(found.any(axis=1))  # the precision is highest at these
        thinned = places is not None and len(marks) > places
        if places is not None and thinned:
            marks = marks[np.arange(1, places + 1) * len(marks) // places - 1]
        last = marks[-1] + 1 if len(marks) else 0  # what comes later changes nothing
        found, counted, images = found[:last], counted[:last], images[:last]
        always = counted.all(axis=1)

        def by_level(which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            levels, rows = np.nonzero(which.T)
            of_marks = np.arange(which.shape[1])[:, None] * last + marks
            ends = np.searchsorted(levels * last + rows, of_marks.ravel(), side="right")
            return images[rows], ends

        return cls(
            shape=(found.shape[1], len(marks)),
            thinned=thinned,
            found=by_level(found),
            always=(images[always], np.cumsum(always)[marks]),
            partly=by_level(counted & ~always[:, None]),
        )

    def aps(self, weights: np.ndarray, to_find: np.ndarray) -> np.ndarray:
        """Return ``(T, B)`` AP in percent.

        Args:
            weights: ``(I, B)`` float32 whole numbers; those of the detections add up to below 2^24.
            to_find: ``(B,)`` weight of the objects, above 0.
        """
        number, size = self.shape[0], self.shape[0] * self.shape[1]
        aps = np.zeros((number, len(to_find)))
        if not size:
            return aps
        step = max(_HELD // size, 1)
        for begin in range(0, len(to_find), step):
            some = slice(begin, begin + step)
            table = weights if step >= len(to_find) else np.ascontiguousarray(weights[:, some])
            sums = [_segment_sums(table, *one) for one in (self.found, self.always, self.partly)]
            small = max(_AT_ONCE // size, 1)
            for first in range(0, table.shape[1], small):
                part = slice(first, first + small)
                true, always, partly = (
                    torch.from_numpy(one[:, part]).T.reshape(-1, count, self.shape[1])
                    for one, count in zip(sums, (number, 1, number))
                )
                areas = _areas(true, always + partly, to_find[some][part], exact=not self.thinned)
                aps[:, some][:, part] = 100 * areas.T
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


def _segment_sums(table: np.ndarray, rows: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return ``(m, B)`` float32 sums of rows of a table, of each segment of the rows.

    Args:
        table: ``(I, B)`` float32.
        rows: of the table, some more than once.
        ends: ``(m,)`` of the segments in ``rows``, rising.
    """
    if not len(rows):
        return np.zeros((len(ends), table.shape[1]), dtype=np.float32)
    starts = torch.from_numpy(np.append(0, ends[:-1]))
    chosen = torch.from_numpy(rows.astype(np.int64))
    # Without a copy of the chosen rows.
    return embedding_bag(chosen, torch.from_numpy(table), starts, mode="sum").numpy()


def _areas(
    found: torch.Tensor, counted: torch.Tensor, to_find: np.ndarray, *, exact: bool
) -> np.ndarray:
    """Return ``(B, T)`` the mean of the precision over the recall thresholds.

    Where nothing is found the precision falls and the recall stays, so such places change nothing.

    Args:
        found: ``(B, T, m)`` float32 weight of what is found from one place to the next.
        counted: ``(B, T, m)`` likewise of all detections.
        to_find: ``(B,)`` weight of the objects, above 0.
        exact: whether few weights occur, so that a table of them pays.
    """
    # Sums of whole numbers: without rounding.
    true = found.cumsum(-1, dtype=torch.float64).numpy()
    all_ = counted.cumsum(-1, dtype=torch.float64).clamp_(min=1).numpy()
    backwards = np.empty_like(true)
    np.divide(true, all_, out=backwards[..., ::-1])
    highest = torch.from_numpy(backwards).cummax(-1).values.numpy()[..., ::-1]
    reached = _reached(true, to_find[:, None, None], with_table=exact)
    total = reached[..., 0] * highest[..., 0]
    total += np.einsum("btm,btm->bt", np.diff(reached, axis=-1), highest[..., 1:])
    return total / len(RECALL_THRESHOLDS)


def _reached(true: np.ndarray, to_find: np.ndarray, *, with_table: bool) -> np.ndarray:
    """Return ``(B, T, m)`` float64 recall thresholds that each weight reaches; 0 for none found."""
    if not with_table:
        return np.where(true > 0, thresholds_reached(true / to_find), 0.0)
    weights = np.arange(int(true[..., -1].max()) + 1)
    table = thresholds_reached(weights / np.maximum(to_find[:, 0], weights)).astype(np.float64)
    table[:, 0] = 0
    starts = (np.arange(len(to_find)) * len(weights))[:, None, None]
    return table.ravel().take(true.astype(np.int64) + starts)


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
