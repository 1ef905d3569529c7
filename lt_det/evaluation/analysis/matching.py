"""Match detections with the objects of their image and class, many images and classes at a time.

Shape shorthand: N detections, T = 10 thresholds, P pairs of an image and a class, G most objects of
one of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lt_det.evaluation.analysis.objects import Objects
from lt_det.evaluation.analysis.overlaps import box_overlaps
from lt_det.evaluation.detections import Detections

#: The metric's.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
# Pairs of an image and a category that are matched at once.
_PAIRS_AT_ONCE = 4096

#: (detections, objects, ``(P,)`` rows of the one, ``(P,)`` rows of the other) -> ``(P,)`` float64.
OverlapsOfPairs = Callable[[Detections, Objects, np.ndarray, np.ndarray], np.ndarray]


def matched(
    objects: Objects,
    images: np.ndarray,
    classes: np.ndarray,
    boxes: np.ndarray,
    detections: Detections | None,
    overlaps: OverlapsOfPairs | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``(N, T)`` whether an object was found and to be ignored, and ``(N,)`` which at 0.5.

    Detections come by class, image and falling score.
    """
    shape = (len(images), len(IOU_THRESHOLDS))
    found, ignored = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    taken = np.full(len(images), -1, dtype=np.int64)
    num_images = len(objects.image_ids)
    of_objects = objects.classes * num_images + objects.images
    # Objects to ignore come last in a pair, so that others are taken first.
    order = np.lexsort((objects.ignored, of_objects))
    pairs, starts, sizes = np.unique(of_objects[order], return_index=True, return_counts=True)
    of_detections = classes.astype(np.int64) * num_images + images
    first: Any = np.searchsorted(of_detections, pairs)
    numbers: Any = np.searchsorted(of_detections, pairs, side="right") - first
    both = np.flatnonzero(numbers)
    # Alike pairs together: less than half is padded.
    both = both[np.lexsort((numbers[both], sizes[both]))]
    _, begins = np.unique(np.ceil(np.log2(sizes[both])), return_index=True)
    begins = np.union1d(begins, np.arange(0, len(both), _PAIRS_AT_ONCE))
    for some in np.split(both, begins[1:]) if len(both) else ():
        width = int(sizes[some].max())
        places = order[np.minimum(starts[some][:, None] + np.arange(width), len(order) - 1)]
        there = np.arange(width) < sizes[some][:, None]  # (P, G)
        of_rows: _BoxOverlaps | _GivenOverlaps
        if overlaps is None or detections is None:
            of_rows = _BoxOverlaps(boxes, objects.boxes[places])
        else:
            of_rows = _GivenOverlaps(
                overlaps, objects, detections, places, there, first[some], numbers[some]
            )
        _match_pairs(
            of_rows, places, there, objects.ignored[places] & there, first[some], numbers[some],
            found, ignored, taken,
        )  # fmt: skip
    return found, ignored, taken


def _match_pairs(
    overlaps: Callable[[np.ndarray, np.ndarray], np.ndarray],
    places: np.ndarray,
    there: np.ndarray,
    to_ignore: np.ndarray,
    first: np.ndarray,
    numbers: np.ndarray,
    found: np.ndarray,
    ignored: np.ndarray,
    taken: np.ndarray,
) -> None:
    """Match the detections of some pairs, all pairs at a time, and write down what they find."""
    width = places.shape[1]
    free = np.repeat(there[:, None], len(IOU_THRESHOLDS), axis=1)  # (P, T, G)
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]
    for rank in range(int(numbers.max())):
        some = np.flatnonzero(numbers > rank)
        rows = first[some] + rank
        overlap = overlaps(rows, some)[:, None]  # (p, 1, G)
        near = np.flatnonzero(overlap.max(axis=2) >= thresholds[0])  # the others find nothing
        rows, some, overlap = rows[near], some[near], overlap[near]
        usable = free[some] & (overlap >= thresholds)
        # One to find is taken before one to ignore; of equal overlaps the last.
        value = np.where(usable, overlap + 2.0 * ~to_ignore[some][:, None], -1.0)
        best = width - 1 - value[..., ::-1].argmax(axis=2)  # (p, T)
        hit = np.take_along_axis(usable, best[..., None], axis=2)[..., 0]
        found[rows] = hit
        ignored[rows] = hit & np.take_along_axis(to_ignore[some], best, axis=1)
        taken[rows] = np.where(hit[:, 0], places[some, best[:, 0]], -1)
        p, t = np.nonzero(hit)
        free[some[p], t, best[p, t]] = False


@dataclass(frozen=True)
class _BoxOverlaps:
    """IoU of detections with the objects of their pair, when asked for."""

    boxes: np.ndarray
    of_pair: np.ndarray

    def __call__(self, rows: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Return ``(p, G)`` of the detections ``rows``, of the ``pairs``."""
        return box_overlaps(self.boxes[rows][:, None], self.of_pair[pairs])


class _GivenOverlaps:
    """Overlaps of all detections of some pairs with the objects there, computed at once."""

    def __init__(
        self,
        overlaps: OverlapsOfPairs,
        objects: Objects,
        detections: Detections,
        places: np.ndarray,
        there: np.ndarray,
        first: np.ndarray,
        numbers: np.ndarray,
    ) -> None:
        """Compute them; P pairs, ``places`` and ``there`` as above."""
        # Row of a detection, less that of the first in its pair, after those of earlier pairs.
        self._shift = np.cumsum(numbers) - numbers - first
        of_pair = np.repeat(np.arange(len(numbers)), numbers)
        rows = np.arange(len(of_pair)) - self._shift[of_pair]
        at, column = np.nonzero(there[of_pair])
        self._values = np.zeros((len(rows), places.shape[1]))
        self._values[at, column] = overlaps(
            detections, objects, rows[at], places[of_pair[at], column]
        )

    def __call__(self, rows: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Return ``(p, G)`` of the detections ``rows``, of the ``pairs``."""
        return self._values[rows + self._shift[pairs]]
