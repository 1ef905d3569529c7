"""Confusion: as what the objects of a class are detected first.

An object is taken for the class of the detection with the highest score that overlaps it by half,
whatever its class. No score threshold is needed, which would hide rare classes. On a federated data
set the detection may be of a class that nobody looked for in the image, and then be right too: such
a confusion is likely, not certain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lt_det.evaluation.analysis.error_kinds import FOUND
from lt_det.evaluation.analysis.objects import Objects
from lt_det.evaluation.detections import Detections


@dataclass(frozen=True)
class Confusion:
    """Pairs of classes, each once; and objects that nothing overlaps.

    Attributes:
        classes: ``(C,)`` int64 rows of the objects' class.
        detected: ``(C,)`` int64 rows of the class that they are first detected as.
        numbers: ``(C,)`` int64 objects.
        certain: ``(C,)`` int64, those of them whose detection can be judged.
        missed: ``(K,)`` int64 objects of each class that no detection overlaps by half.
    """

    classes: np.ndarray
    detected: np.ndarray
    numbers: np.ndarray
    certain: np.ndarray
    missed: np.ndarray

    def right(self, num_classes: int) -> np.ndarray:
        """Return ``(K,)`` objects that are first detected as what they are."""
        own = self.classes == self.detected
        right = np.zeros(num_classes, dtype=np.int64)
        right[self.classes[own]] = self.numbers[own]
        return right


def find_confusion(
    objects: Objects,
    detections: Detections,
    is_judged: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> Confusion:
    """Return what the objects are taken for.

    Args:
        objects: ground truth.
        detections: all that count, judged or not.
        is_judged: ``(N,)`` bool, which can be.
        pairs: rows of the detections, rows of the objects, IoU.
    """
    rows, places, overlaps = (column[pairs[2] >= FOUND] for column in pairs)
    # Last the best: the highest score, then the largest overlap, then the earlier detection.
    order = np.lexsort((-rows, overlaps, detections.scores[rows]))
    first = np.full(len(objects.classes), -1)
    first[places[order]] = rows[order]
    num_classes = len(objects.category_ids)
    wanted = ~objects.ignored
    there = wanted & (first >= 0)
    detected = np.searchsorted(objects.category_ids, detections.category_ids[first[there]])
    numbers = objects.classes[there] * num_classes + detected
    known, inverse = np.unique(numbers, return_inverse=True)
    classes, detected = np.divmod(known, num_classes)
    return Confusion(
        classes=classes,
        detected=detected,
        numbers=np.bincount(inverse, minlength=len(known)),
        certain=np.bincount(inverse, weights=is_judged[first[there]], minlength=len(known)).astype(
            np.int64
        ),
        missed=np.bincount(objects.classes[wanted & (first < 0)], minlength=num_classes),
    )
