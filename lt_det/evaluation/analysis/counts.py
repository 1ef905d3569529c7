"""What becomes of the detections: found, false, or not counted by the federated rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lt_det.evaluation.analysis.matches import Judged
from lt_det.evaluation.analysis.objects import Objects
from lt_det.evaluation.detections import Detections

#: The seven fates of a detection, at IoU 0.5.
FATES = ("over_limit", "no_area", "unjudged", "excused", "on_ignored", "found", "false")


@dataclass(frozen=True)
class Fates:
    """Detections of each class by what becomes of them.

    Attributes:
        detections: ``(K,)`` int64, all.
        by_fate: fate -> ``(K,)`` int64: beyond the limit of their image; without an area; of a
            class neither annotated in nor listed absent from their image; find nothing where their
            class is not annotated exhaustively; find an object to ignore; find an object; false.
            They add up to ``detections``.
    """

    detections: np.ndarray
    by_fate: dict[str, np.ndarray]


def fates(
    objects: Objects,
    detections: Detections,
    judged: Judged,
    *,
    within: np.ndarray,
    areas: np.ndarray,
) -> Fates:
    """Return what becomes of the detections.

    Args:
        objects: ground truth.
        detections: N, all.
        judged: those of ``detections`` that can be judged.
        within: ``(N,)`` bool, within the limit of their image.
        areas: ``(N,)`` of them.
    """
    numbers = np.full(len(detections), FATES.index("unjudged"))
    matches, rows = judged.matches, judged.rows
    found, counted = matches.found[:, 0], matches.counted[:, 0]
    of_judged = np.select(
        [found, counted, judged.taken >= 0],
        [FATES.index(fate) for fate in ("found", "false", "on_ignored")],
        default=FATES.index("excused"),
    )
    numbers[rows] = of_judged
    numbers[~(areas > 0)] = FATES.index("no_area")
    numbers[~within] = FATES.index("over_limit")
    num_classes = len(objects.category_ids)
    classes = np.searchsorted(objects.category_ids, detections.category_ids)
    table = np.bincount(classes * len(FATES) + numbers, minlength=num_classes * len(FATES))
    table = table.reshape(num_classes, len(FATES))
    return Fates(table.sum(axis=1), dict(zip(FATES, table.T)))
