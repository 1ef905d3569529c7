"""Figures of each frequency group, from those of its classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lt_det.data.stats.frequency_groups import GROUP_NAMES
from lt_det.evaluation.analysis.calibration import calibration
from lt_det.evaluation.analysis.counts import Fates
from lt_det.evaluation.analysis.error_kinds import KINDS, Errors
from lt_det.evaluation.analysis.matches import Matches
from lt_det.evaluation.analysis.pooled import best_first, pooled_ap
from lt_det.evaluation.lvis.average_precision import LVISAveragePrecision

_SIX = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass(frozen=True)
class GroupFigures:
    """What the figures of groups are made of; K classes, T IoU thresholds.

    Attributes:
        result: of the evaluation.
        objects: ``(K,)`` objects to find.
        matches: judged detections.
        best: judged ones of the best of each class over the data set.
        fixed: ``(K,)`` AP of these.
        boundary: ``(K,)`` boundary AP; None where it is off.
        recalls: ``(K, T)``.
        fates: detections.
        errors: kinds.
        intervals: metric -> group -> interval.
        bins: of the calibration.
    """

    result: LVISAveragePrecision
    objects: np.ndarray
    matches: Matches
    best: Matches
    fixed: np.ndarray
    boundary: np.ndarray | None
    recalls: np.ndarray
    fates: Fates
    errors: Errors
    intervals: dict[str, dict[str, list[float] | None]]
    bins: int


def group_rows(figures: GroupFigures) -> dict[str, dict[str, Any]]:
    """Return "all" and, where the classes have groups, "r", "c", "f" -> figures by name."""
    groups = np.array([c.group or "" for c in figures.result.per_category])
    members = {"all": np.ones(len(groups), dtype=bool)}
    if (groups != "").any():
        members.update({group: groups == group for group in GROUP_NAMES})
    order = best_first(figures.best)
    return {group: _row(figures, group, of_group, order) for group, of_group in members.items()}


def _row(
    figures: GroupFigures, group: str, members: np.ndarray, order: np.ndarray
) -> dict[str, Any]:
    result, by_fate = figures.result, figures.fates.by_fate
    six = result.summary if group == "all" else result.by_group[group]
    number = int(figures.objects[members].sum())
    boundary = None if figures.boundary is None else _mean(figures.boundary[members])
    return {
        "name": GROUP_NAMES.get(group, group),
        "classes": int(members.sum()),
        "classes_with_objects": int((figures.objects[members] > 0).sum()),
        "objects": number,
        "detections": int(figures.fates.detections[members].sum()),
        **{fate: int(by_fate[fate][members].sum()) for fate in ("unjudged", "excused")},
        "on_ignored": int(by_fate["on_ignored"][members].sum()),
        **{name: six[name] for name in _SIX},
        "AP_fixed": _mean(figures.fixed[members]),
        "AP_pool": pooled_ap(figures.best, order, members, number),
        "AP_boundary": boundary,
        "AR": _mean(figures.recalls[members].mean(axis=1)),
        "AR50": _mean(figures.recalls[members, 0]),
        "AP_interval": figures.intervals["AP"][group],
        "AP50_interval": figures.intervals["AP50"][group],
        "calibration": calibration(figures.matches, members, bins=figures.bins),
        "errors": {
            kind: {
                "count": int(figures.errors.counts[kind][members].sum()),
                "AP50_gain": _mean(figures.errors.gains[kind][members]),
            }
            for kind in KINDS
        },
    }


def _mean(values: np.ndarray) -> float:
    """Return the mean of what is defined, NaN if nothing is."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else float("nan")
