"""Analyse an evaluation: what AP does not say.

Shape shorthand: N detections, K classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lt_det.evaluation.analysis.class_rows import class_rows
from lt_det.evaluation.analysis.confusion import find_confusion
from lt_det.evaluation.analysis.confusion_rows import confusion_groups, confusion_rows
from lt_det.evaluation.analysis.counts import FATES, fates
from lt_det.evaluation.analysis.error_kinds import FOUND, NEAR, find_errors
from lt_det.evaluation.analysis.group_rows import GroupFigures, group_rows
from lt_det.evaluation.analysis.intervals import drawn_means, intervals
from lt_det.evaluation.analysis.matches import Judged, Matches, judge
from lt_det.evaluation.analysis.objects import Objects
from lt_det.evaluation.analysis.operating_points import best_points, class_recalls
from lt_det.evaluation.analysis.options import AnalysisOptions
from lt_det.evaluation.analysis.overlaps import boundary_overlaps, touching
from lt_det.evaluation.analysis.plain_ap import plain_aps
from lt_det.evaluation.analysis.pooled import best_of_classes
from lt_det.evaluation.analysis.suspicions import suspicions
from lt_det.evaluation.detections import Detections
from lt_det.evaluation.lvis.average_precision import LVISAveragePrecision
from lt_det.evaluation.lvis.ground_truth import LVISGroundTruth


@dataclass(frozen=True)
class Analysis:
    """What an evaluation says beside AP. What is undefined is NaN or None.

    Attributes:
        iou_type: "bbox" or "segm".
        max_dets: detections counted for each image.
        options: settings.
        notes: results that look like a mistake, in words.
        counts: images, objects, and detections by what becomes of them.
        groups: "all", "r", "c", "f" -> figures.
        classes: one row a class, by rising id.
        confusion: one row a pair of different classes, from rare to frequent.
        confusion_groups: "r", "c", "f" -> objects by what they are first detected as.
        objects: ground truth.
        matches: judged detections, for comparisons with another run.
    """

    iou_type: str
    max_dets: int
    options: AnalysisOptions
    notes: list[str]
    counts: dict[str, int]
    groups: dict[str, dict[str, Any]]
    classes: list[dict[str, Any]]
    confusion: list[dict[str, Any]]
    confusion_groups: dict[str, dict[str, int]]
    objects: Objects
    matches: Matches


def analyse(
    ground_truth: LVISGroundTruth,
    detections: Detections,
    result: LVISAveragePrecision,
    *,
    options: AnalysisOptions | None = None,
) -> Analysis:
    """Return the analysis of an evaluation.

    Args:
        ground_truth: as for the evaluation; with masks for "segm".
        detections: likewise.
        result: of the evaluation: its kind, limit, groups and AP.
        options: settings; None is the default.
    """
    options = options or AnalysisOptions()
    objects, iou_type = Objects.of(ground_truth), result.iou_type
    groups = [category.group for category in result.per_category]
    names = [category.name for category in result.per_category]
    within = detections.within_limit(result.max_dets)
    everything = judge(objects, detections, iou_type=iou_type)
    judged = _of_rows(everything, within)
    numbers = np.bincount(objects.classes[~objects.ignored], minlength=len(names))

    limited = np.flatnonzero(within)
    of_limit = detections if within.all() else detections.take(limited)
    rows, *others = touching(of_limit, objects, iou_type=iou_type, lowest=NEAR)
    pairs = (limited[rows], *others)
    is_judged = np.zeros(len(detections), dtype=bool)
    is_judged[judged.rows] = True
    confusion = find_confusion(objects, detections, is_judged, pairs)
    drawn = drawn_means(
        objects,
        judged.matches,
        groups,
        resamples=options.resamples,
        seed=options.seed,
        places=options.places,
    )
    best = _of_rows(everything, best_of_classes(detections, per_class=options.per_class)).matches
    boundary = None
    if options.boundary and iou_type == "segm":
        of_edges = judge(objects, of_limit, iou_type=iou_type, overlaps=boundary_overlaps)
        boundary = _plain_aps(of_edges.matches, numbers)
    of_classes = fates(
        objects, detections, judged, within=within, areas=detections.geometry(iou_type)[1]
    )
    fixed = _plain_aps(best, numbers)
    recalls = class_recalls(judged.matches, numbers)
    table = group_rows(
        GroupFigures(
            result=result,
            objects=numbers,
            matches=judged.matches,
            best=best,
            fixed=fixed,
            boundary=boundary,
            recalls=recalls,
            fates=of_classes,
            errors=find_errors(objects, judged, pairs),
            intervals=intervals(drawn, confidence=options.confidence),
            bins=options.bins,
        )
    )
    return Analysis(
        iou_type=iou_type,
        max_dets=result.max_dets,
        options=options,
        notes=suspicions(table, confusion, names),
        counts={
            "images": len(objects.image_ids),
            "objects": int(numbers.sum()),
            "objects_to_ignore": int(objects.ignored.sum()),
            "detections": len(detections),
            **{fate: int(of_classes.by_fate[fate].sum()) for fate in FATES},
        },
        groups=table,
        classes=class_rows(
            result,
            objects=objects,
            judged=judged,
            fates=of_classes,
            fixed=fixed,
            recalls=recalls,
            points=best_points(judged.matches, numbers),
            best_overlaps=_best_overlaps(objects, judged, pairs),
            confusion=confusion,
        ),
        confusion=confusion_rows(confusion, result.per_category),
        confusion_groups=confusion_groups(confusion, groups),
        objects=objects,
        matches=judged.matches,
    )


def settings(analysis: Analysis) -> dict[str, Any]:
    """Return the settings of an analysis, for its json."""
    return {"iou_threshold": FOUND, "background_iou": NEAR, **asdict(analysis.options)}


def _of_rows(judged: Judged, kept: np.ndarray) -> Judged:
    """Return those of the judged detections whose row is kept."""
    rows = np.flatnonzero(kept[judged.rows])
    return Judged(judged.matches.take(rows), judged.rows[rows], judged.taken[rows])


def _plain_aps(matches: Matches, numbers: np.ndarray) -> np.ndarray:
    aps = plain_aps(matches.classes, matches.found, matches.counted, numbers)
    return aps.mean(axis=0)


def _best_overlaps(
    objects: Objects, judged: Judged, pairs: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> np.ndarray:
    """Return ``(K,)`` largest overlap of a judged detection with an object of its class."""
    rows, places, overlaps = pairs
    class_of = np.full(int(max(rows.max(initial=-1), judged.rows.max(initial=-1))) + 1, -1)
    class_of[judged.rows] = judged.matches.classes
    same = objects.classes[places] == class_of[rows]
    best = np.zeros(len(objects.category_ids))
    np.maximum.at(best, objects.classes[places[same]], overlaps[same])
    return best
