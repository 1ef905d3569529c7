"""Compare two runs: differences of AP with intervals, from the same resamples of the images.

An interval that holds 0 shows no difference; it does not show that there is none.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lt_det.evaluation.analysis.intervals import GROUP_MEANS, METRICS, drawn_means
from lt_det.evaluation.analysis.resampling import interval
from lt_det.evaluation.analysis.saved_matches import SavedMatches
from lt_det.evaluation.analysis.tables import write_rows
from lt_det.evaluation.analysis.weighted_ap import class_aps
from lt_det.evaluation.results import write_json
from lt_det.storage.regular_file import check_regular

NO_DIFFERENCE = "no difference can be shown"
#: Columns of the rows by group and by class.
COLUMNS = ("group", "metric", "a", "b", "difference", "low", "high", "verdict")
CLASS_COLUMNS = ("category_id", "name", "group", "a", "b", "difference")


@dataclass(frozen=True)
class Comparison:
    """Result of :func:`compare_runs`; AP and differences in points, NaN where undefined.

    Attributes:
        iou_type: "bbox" or "segm".
        a: file of the first run.
        b: of the second.
        images: of the data set.
        resamples: of the images.
        confidence: probability that the intervals have.
        seed: of the resamples.
        rows: one a group and metric, with the :data:`COLUMNS`; "difference" is b less a.
        classes: one a class, with the :data:`CLASS_COLUMNS`.
    """

    iou_type: str
    a: str
    b: str
    images: int
    resamples: int
    confidence: float
    seed: int
    rows: list[dict[str, Any]]
    classes: list[dict[str, Any]]

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write ``comparison_{iou_type}.json``, ``.csv`` and ``comparison_classes_....csv``."""
        write_json(Path(folder) / f"comparison_{self.iou_type}.json", asdict(self))
        write_rows(Path(folder) / f"comparison_{self.iou_type}.csv", self.rows, COLUMNS)
        write_rows(
            Path(folder) / f"comparison_classes_{self.iou_type}.csv", self.classes, CLASS_COLUMNS
        )


def compare_runs(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    iou_type: str = "bbox",
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Return how AP of two runs on the same data set differs.

    Args:
        a: folder of a run, folder of its results, or ``matches_{bbox,segm}.npz``.
        b: likewise.
        iou_type: "bbox" or "segm".
        resamples: of the images; both runs see the same.
        confidence: probability that the intervals have.
        seed: of the resamples.

    Raises:
        FileNotFoundError: if a run has no such file.
        ValueError: if the runs were evaluated on other images, objects or classes, or with another
            limit of detections, or an option is out of range.
    """
    if resamples < 1:
        raise ValueError(f"resamples: expected at least 1, got {resamples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected above 0 and below 1, got {confidence}")
    paths = [matches_file(run, iou_type) for run in (a, b)]
    runs = [SavedMatches.read(path) for path in paths]
    _check_same(runs, paths)
    drawn = [
        drawn_means(run.objects, run.matches, runs[0].groups, resamples=resamples, seed=seed)
        for run in runs
    ]
    groups = ["all", *(g for g in GROUP_MEANS if g in runs[0].groups)]
    rows = [
        _row(group, metric, drawn[0][metric][group], drawn[1][metric][group], confidence)
        for group in groups
        for metric in METRICS
    ]
    once = np.ones((1, len(runs[0].objects.image_ids)))
    aps = [class_aps(run.objects, run.matches, once)[0].tolist() for run in runs]
    ids = runs[0].objects.category_ids.tolist()
    classes = [
        dict(zip(CLASS_COLUMNS, (*about, of_a, of_b, of_b - of_a)))
        for *about, of_a, of_b in zip(ids, runs[0].names, runs[0].groups, *aps)
    ]
    return Comparison(
        iou_type=iou_type,
        a=os.fspath(paths[0]),
        b=os.fspath(paths[1]),
        images=len(runs[0].objects.image_ids),
        resamples=resamples,
        confidence=confidence,
        seed=seed,
        rows=rows,
        classes=classes,
    )


def matches_file(run: str | os.PathLike[str], iou_type: str) -> Path:
    """Return the file of matches of a run.

    Args:
        run: folder of a run, folder of its results, or the file.
        iou_type: "bbox" or "segm".

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if there are several, of several data sets.
    """
    path, name = Path(run), f"matches_{iou_type}.npz"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: expected the folder of a run or {name}")
    if not path.is_dir():
        check_regular(path)
        return path
    found = [p for p in (path / name, path / "inference" / name) if p.is_file()]
    found = found or sorted((path / "inference").glob(f"*/{name}"))
    if not found:
        for place in (path / name, path / "inference" / name):
            check_regular(place)
        raise FileNotFoundError(
            f"{path} has no {name}: evaluate the run with its analysis on, or "
            f"lt-det evaluate VAL.json DETECTIONS.json --analysis on --output {path}"
        )
    if len(found) > 1:
        raise ValueError(
            f"{path} has results of several data sets, give the folder of one: "
            f"{', '.join(str(p.parent) for p in found)}"
        )
    return found[0]


def _check_same(runs: list[SavedMatches], paths: list[Path]) -> None:
    first, second = runs
    for what, one, other in (
        ("images", first.objects.image_ids, second.objects.image_ids),
        ("classes", first.objects.category_ids, second.objects.category_ids),
        ("images of objects", first.objects.images, second.objects.images),
        ("classes of objects", first.objects.classes, second.objects.classes),
    ):
        if not np.array_equal(one, other):
            raise ValueError(
                f"{paths[0]} and {paths[1]} are not of the same data set: other {what} "
                f"({len(one)} and {len(other)}); only runs on the same images can be compared"
            )
    if first.truth and second.truth and first.truth != second.truth:
        raise ValueError(
            f"{paths[0]} and {paths[1]} are of the same images with other boxes or lists of "
            "objects: evaluate both with one json"
        )
    if first.max_dets != second.max_dets:
        raise ValueError(
            f"{paths[0]} counts {first.max_dets} detections an image, {paths[1]} "
            f"{second.max_dets}: evaluate both with one TEST.DETECTIONS_PER_IMAGE"
        )
    if first.iou_type != second.iou_type:
        raise ValueError(
            f"{paths[0]} is of {first.iou_type}, {paths[1]} of {second.iou_type}: give two alike"
        )


def _row(
    group: str, metric: str, a: np.ndarray, b: np.ndarray, confidence: float
) -> dict[str, Any]:
    difference = float(b[0] - a[0])
    low, high = interval((b - a)[1:], confidence, around=difference)
    verdict = NO_DIFFERENCE
    if not np.isfinite([difference, low, high]).all():
        verdict = "undefined"
    elif low > 0:
        verdict = "b is higher"
    elif high < 0:
        verdict = "b is lower"
    values = (group, metric, float(a[0]), float(b[0]), difference, low, high, verdict)
    return dict(zip(COLUMNS, values))
