"""Recall of each class, and the score threshold with its best F1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lt_det.evaluation.analysis.matches import Matches


@dataclass(frozen=True)
class OperatingPoint:
    """Where F1 of a class at IoU 0.5 is highest.

    Attributes:
        threshold: score from which detections are kept.
        f1: in percent, as the others.
        precision: of the detections kept.
        recall: of the objects.
    """

    threshold: float
    f1: float
    precision: float
    recall: float


def class_recalls(matches: Matches, num_objects: np.ndarray) -> np.ndarray:
    """Return ``(K, T)`` recall in percent at each IoU threshold, NaN without an object.

    Args:
        matches: judged detections.
        num_objects: ``(K,)``, those to ignore left out.
    """
    found = np.stack(
        [np.bincount(matches.classes[hit], minlength=len(num_objects)) for hit in matches.found.T],
        axis=1,
    )
    with np.errstate(invalid="ignore"):
        return np.where(num_objects[:, None] > 0, 100 * found / num_objects[:, None], np.nan)


def best_points(matches: Matches, num_objects: np.ndarray) -> list[OperatingPoint | None]:
    """Return for each class the point with the best F1; None where nothing of it is found.

    Detections of equal score are kept together or not at all. Of equal F1 the higher threshold is
    taken.

    Args:
        matches: judged detections.
        num_objects: ``(K,)``, those to ignore left out.
    """
    ends = np.searchsorted(matches.classes, np.arange(len(num_objects) + 1))
    points: list[OperatingPoint | None] = []
    for k, number in enumerate(num_objects.tolist()):
        rows = slice(ends[k], ends[k + 1])
        found, counted = matches.found[rows, 0], matches.counted[rows, 0]
        if not number or not found.any():
            points.append(None)
            continue
        scores = matches.scores[rows]
        last = np.append(scores[1:] != scores[:-1], True)
        true, kept = np.cumsum(found)[last], np.cumsum(counted)[last]
        f1 = 2 * true / (kept + number)
        best = int(f1.argmax())
        points.append(
            OperatingPoint(
                threshold=float(scores[last][best]),
                f1=100 * float(f1[best]),
                precision=100 * float(true[best] / max(kept[best], 1)),
                recall=100 * float(true[best] / number),
            )
        )
    return points
