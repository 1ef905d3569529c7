"""Figures of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lt_det.evaluation.analysis.confusion import Confusion
from lt_det.evaluation.analysis.counts import Fates
from lt_det.evaluation.analysis.matches import Judged
from lt_det.evaluation.analysis.objects import Objects
from lt_det.evaluation.analysis.operating_points import OperatingPoint
from lt_det.evaluation.analysis.reasons import reason
from lt_det.evaluation.lvis.average_precision import LVISAveragePrecision

#: Columns of a row, in order.
COLUMNS = (
    *("category_id", "name", "group", "num_gt_instances", "num_gt_images"),
    *("num_detections", "num_judged", "AP", "AP50", "AP_fixed", "AR"),
    *("threshold", "f1", "precision", "recall", "why"),
)


def class_rows(
    result: LVISAveragePrecision,
    *,
    objects: Objects,
    judged: Judged,
    fates: Fates,
    fixed: np.ndarray,
    recalls: np.ndarray,
    points: Sequence[OperatingPoint | None],
    best_overlaps: np.ndarray,
    confusion: Confusion,
) -> list[dict[str, Any]]:
    """Return one dictionary a class, by rising id: the :data:`COLUMNS`.

    Args:
        result: of the evaluation.
        objects: ground truth.
        judged: detections.
        fates: detections, all.
        fixed: ``(K,)`` AP-Fixed.
        recalls: ``(K, T)``.
        points: K with the best F1.
        best_overlaps: ``(K,)`` with an object of the class.
        confusion: of the classes.
    """
    num_classes = len(points)
    to_ignore = np.bincount(objects.classes[objects.ignored], minlength=num_classes)
    num_judged = np.bincount(judged.matches.classes, minlength=num_classes)
    num_detections = fates.detections - fates.by_fate["over_limit"]
    found = fates.by_fate["found"]
    taken_for = _taken_for(confusion, num_classes)
    rows = []
    for k, (category, point) in enumerate(zip(result.per_category, points)):
        other = int(taken_for[k])
        rows.append(
            {
                "category_id": category.category_id,
                "name": category.name,
                "group": category.group,
                "num_gt_instances": category.num_gt_instances,
                "num_gt_images": category.num_gt_images,
                "num_detections": int(num_detections[k]),
                "num_judged": int(num_judged[k]),
                "AP": category.ap,
                "AP50": category.ap50,
                "AP_fixed": float(fixed[k]),
                "AR": float(recalls[k].mean()),
                "threshold": point and point.threshold,
                "f1": point and point.f1,
                "precision": point and point.precision,
                "recall": point and point.recall,
                "why": reason(
                    objects=category.num_gt_instances,
                    to_ignore=int(to_ignore[k]),
                    detections=int(num_detections[k]),
                    judged=int(num_judged[k]),
                    found=int(found[k]),
                    best_overlap=float(best_overlaps[k]),
                    taken_for=result.per_category[other].name if other >= 0 else "",
                ),
            }
        )
    return rows


def _taken_for(confusion: Confusion, num_classes: int) -> np.ndarray:
    """Return ``(K,)`` the other class that most objects of a class are taken for, or -1."""
    most = np.full(num_classes, -1)
    order = np.argsort(confusion.numbers, kind="stable")
    most[confusion.classes[order]] = confusion.detected[order]
    return np.where(most == np.arange(num_classes), -1, most)
