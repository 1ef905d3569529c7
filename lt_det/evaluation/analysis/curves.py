"""Areas under the curves of precision over recall of many classes and levels, side by side.

A level is an IoU threshold. A curve is looked at where something is found at its level: there the
precision is highest. Curves are walked along together, one such place of each at a time.

Shape shorthand: N detections, M marks (places of any level), P places, C curves, B weightings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from lt_det.evaluation.analysis.matches import Matches
from lt_det.evaluation.analysis.recall_thresholds import (
    MOST_IN_TABLE,
    RECALL_THRESHOLDS,
    reached_by_number,
    thresholds_reached,
)

# Places, and curves, times weightings, that are held and worked on at once: the curves stay near to
# the processor.
_HELD, _AT_ONCE = 2**23, 2**15


class _Rows(NamedTuple):
    """Images of detections in segments, and ``(S,)`` where each segment ends."""

    images: torch.Tensor
    ends: np.ndarray

    @classmethod
    def of(cls, segments: np.ndarray, images: np.ndarray, *, count: int) -> _Rows:
        """Return the detections by their segment."""
        order = np.argsort(segments, kind="stable")
        ends = np.cumsum(np.bincount(segments, minlength=count))
        return cls(torch.from_numpy(images[order].astype(np.int64)), ends)

    def sums(self, table: torch.Tensor, begin: int, end: int) -> torch.Tensor:
        """Return ``(end - begin, B)`` sums of rows of a table, of each of these segments."""
        edges = np.append(self.ends[begin - 1] if begin else 0, self.ends[begin:end])
        chosen = self.images[edges[0] : edges[-1]]
        if not len(chosen):
            return torch.zeros((end - begin, table.shape[1]))
        # Without a copy of the chosen rows.
        return embedding_bag(chosen, table, torch.from_numpy(edges[:-1] - edges[0]), mode="sum")


@dataclass(frozen=True)
class Curves:
    """Curves on which something is found, in blocks, the longest of a block first.

    Attributes:
        levels: ``(C,)``.
        classes: ``(C,)`` rows.
        blocks: ``(C,)`` number of the block, rising.
        places: ``(P, 3)`` block, step along the curve and mark of each place: by block, by step,
            then in the order of the curves.
        found: detections that find something, by place.
        partly: those that count at some levels, by place.
        always: those that count at all, by mark.
        ends: ``(K + 1,)`` where the marks of each class begin.
    """

    levels: np.ndarray
    classes: np.ndarray
    blocks: np.ndarray
    places: np.ndarray
    found: _Rows
    partly: _Rows
    always: _Rows
    ends: np.ndarray

    @classmethod
    def of(cls, matches: Matches, block_of: np.ndarray, *, places: int | None) -> Curves:
        """Return the curves of judged detections.

        Args:
            matches: N of them.
            block_of: ``(K,)`` block of each class, -1 for none.
            places: most marks of a class; None is all.
        """
        num_classes, images = len(block_of), matches.images
        rows = np.flatnonzero(matches.found.any(axis=1) & (block_of >= 0)[matches.classes])
        marks = rows[_evenly(matches.classes[rows], places)]
        of_marks = np.append(matches.classes[marks], -1)
        following = np.searchsorted(
            marks, np.arange(len(matches))
        )  # what comes later plays no role
        known = of_marks[following] == matches.classes
        always = matches.counted.all(axis=1)
        count = max(len(marks), 1)

        def by_level(which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            of_levels = [np.flatnonzero(one & known) for one in which.T]
            keys = [level * count + following[rows] for level, rows in enumerate(of_levels)]
            return np.concatenate(of_levels), np.concatenate(keys)

        rows, keys = by_level(matches.found)
        is_new = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
        of_rows = np.cumsum(is_new) - 1
        keys = keys[is_new]
        levels, own = np.divmod(keys, count)
        of_places = levels * num_classes + of_marks[own]  # rising
        curves, starts, of_places, lengths = np.unique(
            of_places, return_index=True, return_inverse=True, return_counts=True
        )
        of_levels, classes = np.divmod(curves, num_classes)
        order = np.lexsort((-lengths, block_of[classes]))
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        steps = np.arange(len(keys)) - starts[of_places]
        blocks = block_of[classes][of_places]
        packed = np.argsort(
            (blocks * (steps.max(initial=0) + 1) + steps) * len(order) + rank[of_places]
        )
        number = np.empty_like(packed)
        number[packed] = np.arange(len(packed))
        found = _Rows.of(number[of_rows], images[rows], count=len(keys))

        rows, wanted = by_level(matches.counted & ~always[:, None])
        at = np.searchsorted(keys, wanted)
        same = np.flatnonzero(at < len(keys))
        of_curves = wanted[same] // count * num_classes + matches.classes[rows[same]]
        same = same[curves[of_places[at[same]]] == of_curves]
        always = np.flatnonzero(always & known)
        return cls(
            levels=of_levels[order],
            classes=classes[order],
            blocks=block_of[classes[order]],
            places=np.stack([blocks, steps, own], axis=1)[packed],
            found=found,
            partly=_Rows.of(number[at[same]], images[rows[same]], count=len(keys)),
            always=_Rows.of(following[always], images[always], count=len(marks)),
            ends=np.searchsorted(of_marks[:-1], np.arange(num_classes + 1)),
        )

    def areas(
        self, weights: torch.Tensor, to_find: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, slice, np.ndarray]]:
        """Yield levels and classes of some curves, weightings, and ``(c, B)`` AP from 0 to 1.

        Args:
            weights: ``(I, B)`` float32 whole numbers; those of the detections of a class add up to
                below 2^24.
            to_find: ``(K, B)`` weight of the objects, above 0.
        """
        for block in np.unique(self.blocks):
            curves = slice(*np.searchsorted(self.blocks, [block, block + 1]))
            begin, end = np.searchsorted(self.places[:, 0], [block, block + 1]).tolist()
            step = max(_HELD // (end - begin), 1)
            for first in range(0, weights.shape[1], step):
                some = slice(first, first + step)
                table = weights[:, some].contiguous()
                areas = self._areas(curves, begin, end, table, to_find[self.classes[curves], some])
                yield self.levels[curves], self.classes[curves], some, areas

    def _areas(
        self, curves: slice, begin: int, end: int, table: torch.Tensor, to_find: np.ndarray
    ) -> np.ndarray:
        """Return ``(c, B)`` of the curves of a block: those of the places ``begin`` to ``end``."""
        classes, of_places = np.unique(self.classes[curves]), self.places[begin:end]
        always = torch.cat(
            [self.always.sums(table, *self.ends[k : k + 2].tolist()).cumsum(0) for k in classes]
        ).numpy()
        # Marks of the block's classes lie one after another here.
        shift = np.cumsum(np.append(0, np.diff(self.ends)[classes]))[:-1] - self.ends[classes]
        of_class = np.searchsorted(self.ends, of_places[:, 2], side="right") - 1
        marks = of_places[:, 2] + shift[np.searchsorted(classes, of_class)]
        true = self.found.sums(table, begin, end).numpy()
        counted = self.partly.sums(table, begin, end).numpy()
        numbers = np.bincount(of_places[:, 1]).tolist()  # curves that are as long: they fall
        ends = np.cumsum(numbers).tolist()
        steps = [slice(stop - number, stop) for number, stop in zip(numbers, ends)]
        for before, step, number in zip(steps, steps[1:], numbers[1:]):
            # Sums of whole numbers: without rounding.
            true[step] += true[before][:number]
            counted[step] += counted[before][:number]
        reached = _Reached(to_find)
        highest, total = np.zeros_like(to_find), np.zeros_like(to_find)
        later = reached(true[steps[-1]])
        for i in reversed(range(len(steps))):
            step, number = steps[i], numbers[i]
            of_all = always[marks[step]]
            of_all += counted[step]
            precision = np.divide(true[step], np.maximum(of_all, 1, out=of_all), dtype=np.float64)
            np.maximum(highest[:number], precision, out=highest[:number])
            now, gained = later, later
            if i:
                later = reached(true[steps[i - 1]])
                gained = now - later[:number]
            total[:number] += gained * highest[:number]
        return total / len(RECALL_THRESHOLDS)


class _Reached:
    """Recall thresholds that weights of curves reach; 0 for none found."""

    def __init__(self, to_find: np.ndarray) -> None:
        """Hold ``(c, B)`` weight of the objects, above 0."""
        self._to_find, self._starts = to_find, None
        if to_find.max() <= MOST_IN_TABLE:
            objects = to_find.astype(np.int64)
            self._starts = objects * (objects + 1) // 2

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Return ``(d, B)`` uint8 of the weights of the first d curves."""
        number = len(weights)
        if self._starts is not None:
            places = weights.astype(np.int64)
            places += self._starts[:number]
            return reached_by_number().take(places, mode="clip")
        reached = thresholds_reached(weights / self._to_find[:number])
        return (reached * (weights > 0)).astype(np.uint8)


def blocks_of_classes(matches: Matches, to_find: np.ndarray) -> np.ndarray:
    """Return ``(K,)`` blocks of classes that are walked along at once, -1 for none to find.

    Args:
        matches: judged detections.
        to_find: ``(K, B)`` weight of the objects.
    """
    most = to_find.max(axis=1, initial=0)
    finds = np.bincount(matches.classes[matches.found.any(axis=1)], minlength=len(to_find))
    order = np.lexsort((-finds, most > MOST_IN_TABLE))
    order = order[(most > 0)[order]]
    size = max(_AT_ONCE // max(matches.found.shape[1] * to_find.shape[1], 1), 1)
    blocks = np.full(len(to_find), -1)
    blocks[order] = np.arange(len(order)) // size
    return blocks


def _evenly(classes: np.ndarray, most: int | None) -> np.ndarray:
    """Return ``(N,)`` bool, at most ``most`` of each class, evenly spread and with its last.

    Args:
        classes: ``(N,)`` rising.
        most: None is all.
    """
    if most is None:
        return np.ones(len(classes), dtype=bool)
    starts = np.searchsorted(classes, classes)
    numbers = np.searchsorted(classes, classes, side="right") - starts
    place = np.arange(len(classes)) - starts + 1
    return -(-place * most // numbers) * numbers // most == place
