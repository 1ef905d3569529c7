"""Files and log lines of an analysis."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from lt_det.evaluation.analysis import class_rows, confusion_rows
from lt_det.evaluation.analysis.analyse import Analysis, settings
from lt_det.evaluation.analysis.error_kinds import KINDS
from lt_det.evaluation.analysis.saved_matches import SavedMatches
from lt_det.evaluation.analysis.tables import write_rows
from lt_det.evaluation.results import write_json

logger = logging.getLogger(__name__)

#: Scalar columns of a group.
GROUP_COLUMNS = (
    *("group", "name", "classes", "classes_with_objects", "objects", "detections"),
    *("unjudged", "excused", "on_ignored", "AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("AP_fixed", "AP_pool", "AP_boundary", "AR", "AR50", "AP_low", "AP_high", "AP50_low"),
    *("AP50_high", "calibration_error"),
    *(column for kind in KINDS for column in (kind, f"{kind}_AP50_gain")),
)


def write_analysis(folder: str | os.PathLike[str], analysis: Analysis, *, dataset: str) -> None:
    """Write the files of an analysis; T is its ``iou_type``.

    ``analysis_T.json`` (all), ``analysis_groups_T.csv``, ``analysis_classes_T.csv``,
    ``analysis_confusion_T.csv``, ``thresholds_T.json`` (class name -> score with the best F1, for
    predictions) and ``matches_T.npz`` (for comparisons with another run).

    Args:
        folder: where they go.
        analysis: to write.
        dataset: its name or path.
    """
    kind = analysis.iou_type
    everything, groups, classes, confusion, thresholds, matches = analysis_files(folder, kind)
    write_json(
        everything,
        {
            "iou_type": kind,
            "dataset": dataset,
            "max_dets": analysis.max_dets,
            "settings": settings(analysis),
            "notes": analysis.notes,
            "counts": analysis.counts,
            "groups": analysis.groups,
            "classes": analysis.classes,
            "confusion": analysis.confusion,
            "confusion_groups": analysis.confusion_groups,
        },
    )
    write_rows(
        groups,
        [_flat(group, row) for group, row in analysis.groups.items()],
        GROUP_COLUMNS,
    )
    write_rows(classes, analysis.classes, class_rows.COLUMNS)
    write_rows(confusion, analysis.confusion, confusion_rows.COLUMNS)
    write_json(thresholds, {row["name"]: row["threshold"] for row in analysis.classes})
    SavedMatches(
        iou_type=kind,
        max_dets=analysis.max_dets,
        names=[row["name"] for row in analysis.classes],
        groups=[row["group"] for row in analysis.classes],
        objects=analysis.objects,
        matches=analysis.matches,
        truth=analysis.objects.digest(),
    ).write(matches)
    logger.info("What lies behind %s: %s", kind, everything)


def analysis_files(folder: str | os.PathLike[str], kind: str) -> tuple[Path, ...]:
    """Return the six files of :func:`write_analysis`, in its order, whether they exist or not.

    Args:
        folder: where they go.
        kind: "bbox" or "segm".
    """
    names = (
        *(f"analysis_{kind}.json", f"analysis_groups_{kind}.csv", f"analysis_classes_{kind}.csv"),
        *(f"analysis_confusion_{kind}.csv", f"thresholds_{kind}.json", f"matches_{kind}.npz"),
    )
    return tuple(Path(folder, name) for name in names)


def analysis_table(analysis: Analysis) -> str:
    """Return the figures of the groups as a table, and what looks like a mistake under it."""
    body = []
    for row in analysis.groups.values():
        low_high = row["AP_interval"]
        shown = "" if low_high is None else f"{low_high[0]:.1f} to {low_high[1]:.1f}"
        gains = {kind: row["errors"][kind]["AP50_gain"] for kind in KINDS}
        most = max(KINDS, key=lambda kind: np.nan_to_num(gains[kind]))
        body.append(
            [
                row["name"],
                row["AP"],
                shown,
                *(row[name] for name in ("AP_fixed", "AP_pool", "AR")),
                row["calibration"]["error"],
                most if np.nan_to_num(gains[most]) > 0 else "",
            ]
        )
    confidence = f"{100 * analysis.options.confidence:g} %"
    headers = [
        *("classes", "AP", f"{confidence} interval", "AP-Fixed", "AP-Pool", "AR"),
        *("calibration error", "costs most AP50"),
    ]
    table = tabulate(body, headers=headers, tablefmt="pipe", floatfmt=".3f", missingval="")
    return "\n".join([table, *(f"Looks like a mistake: {note}" for note in analysis.notes)])


def _flat(group: str, row: dict[str, Any]) -> dict[str, Any]:
    flat = {**row, "group": group, "calibration_error": row["calibration"]["error"]}
    for metric in ("AP", "AP50"):
        low_high = row[f"{metric}_interval"] or (None, None)
        flat[f"{metric}_low"], flat[f"{metric}_high"] = low_high
    for kind, error in row["errors"].items():
        flat[kind], flat[f"{kind}_AP50_gain"] = error["count"], error["AP50_gain"]
    return flat
