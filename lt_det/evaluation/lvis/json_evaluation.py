"""Evaluate json files by LVIS's rules, without Detectron2."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tabulate import tabulate

from lt_det.data.stats.class_stats import ClassStats
from lt_det.data.stats.frequency_groups import GROUP_NAMES
from lt_det.evaluation.analysis.beside_ap import add_analysis
from lt_det.evaluation.analysis.options import AnalysisOptions
from lt_det.evaluation.detections import Detections, Records, as_detections
from lt_det.evaluation.evaluated_classes import groups_by_category_id
from lt_det.evaluation.lvis.average_precision import (
    Backend,
    IoUType,
    LVISAveragePrecision,
    lvis_average_precision,
)
from lt_det.evaluation.lvis.ground_truth import read_ground_truth
from lt_det.evaluation.results import write_per_category
from lt_det.storage.regular_file import check_regular


def evaluate_lvis(
    ground_truth: str | os.PathLike[str],
    detections: str | os.PathLike[str] | Records | Detections,
    *,
    stats: ClassStats | None = None,
    iou_types: Sequence[IoUType] | None = None,
    max_dets: int = 300,
    backend: Backend = "hotcoco",
    output_dir: str | os.PathLike[str] | None = None,
    analysis: AnalysisOptions | None = None,
) -> dict[str, LVISAveragePrecision]:
    """Return LVIS AP of a json of detections: AP, AP50, ..., APr, APc, APf, and of every class.

    Args:
        ground_truth: COCO- or LVIS-format json of the test set.
        detections: json file of result records, as Detectron2 writes
            ``coco_instances_results.json``; or the records themselves.
        stats: class statistics of the TRAINING set, from which r, c and f are; None takes
            "frequency" of the json's categories, and without it APr, APc and APf are nan.
        iou_types: of "bbox" and "segm"; None takes what the detections have.
        max_dets: highest-scoring detections kept for each image. LVIS: 300.
        backend: "hotcoco" (fast) or "lvis-api" (reference).
        output_dir: where ``per_category_{bbox,segm}.{json,csv}`` go; None writes none.
        analysis: also write what :func:`~lt_det.evaluation.analysis.files.write_analysis` says, and
            log its table; None does not. What goes wrong there is a warning.

    Returns:
        "bbox" or "segm" -> result; its ``summary`` holds percents.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is no json of its kind, detections, json and ``stats`` have other
            images or classes, or there is ``analysis`` and no ``output_dir``.
        ImportError: if the backend is not installed.
    """
    if analysis is not None and output_dir is None:
        raise ValueError("analysis: output_dir is needed, the folder of its files")
    for argument, path in (("ground_truth", ground_truth), ("detections", detections)):
        if isinstance(path, (str, os.PathLike)) and not os.path.isfile(path):
            check_regular(path)
            raise FileNotFoundError(f"{argument}: {os.fspath(path)} does not exist")
    found = as_detections(detections)
    there: list[tuple[IoUType, object]] = [("bbox", found.boxes), ("segm", found.masks)]
    # Without any detection, boxes: every annotation has one.
    types = iou_types or [name for name, column in there if column is not None] or ["bbox"]
    truth = read_ground_truth(ground_truth, with_masks="segm" in types)
    names = [str(c.get("name", c["id"])) for c in truth.categories]
    results: dict[str, LVISAveragePrecision] = {}
    for iou_type in types:
        try:
            result = lvis_average_precision(
                truth,
                found,
                iou_type=iou_type,
                max_dets=max_dets,
                frequency_groups=groups_by_category_id(stats, truth.category_ids, names),
                backend=backend,
            )
        except ValueError as error:
            if isinstance(detections, (str, os.PathLike)):
                raise ValueError(f"{os.fspath(detections)}: {error}") from error
            raise
        results[iou_type] = result
        if output_dir is not None:
            write_per_category(
                output_dir,
                iou_type=iou_type,
                summary=result.summary,
                categories=result.category_rows(),
                about={
                    "dataset": os.fspath(ground_truth),
                    "max_dets": max_dets,
                    "backend": backend,
                },
            )
    if output_dir is not None and analysis is not None:
        dataset = os.fspath(ground_truth)
        for result in results.values():
            add_analysis(output_dir, truth, found, result, options=analysis, dataset=dataset)
    return results


def summary_table(result: LVISAveragePrecision) -> str:
    """Return the nine metrics as a table, and under it how many categories each group rests on."""
    table = tabulate(
        [list(result.summary.values())],
        headers=list(result.summary),
        tablefmt="pipe",
        floatfmt=".3f",
        stralign="center",
        numalign="center",
    )
    sizes = ", ".join(
        f"{GROUP_NAMES[group]} {found} of {size}"
        for group, (found, size) in result.group_sizes().items()
    )
    return f"{table}\nCategories with ground truth: {sizes}"
