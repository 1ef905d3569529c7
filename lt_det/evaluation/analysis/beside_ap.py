"""Add the analysis to an evaluation whose AP is known; it cannot lose that."""

from __future__ import annotations

import logging
import os

from lt_det.evaluation.analysis.analyse import analyse
from lt_det.evaluation.analysis.files import analysis_files, analysis_table, write_analysis
from lt_det.evaluation.analysis.options import AnalysisOptions
from lt_det.evaluation.beside_results import beside_results
from lt_det.evaluation.detections import Detections
from lt_det.evaluation.lvis.average_precision import LVISAveragePrecision
from lt_det.evaluation.lvis.ground_truth import LVISGroundTruth

logger = logging.getLogger(__name__)


def add_analysis(
    folder: str | os.PathLike[str],
    ground_truth: LVISGroundTruth,
    detections: Detections,
    result: LVISAveragePrecision,
    *,
    options: AnalysisOptions,
    dataset: str,
) -> None:
    """Log the table of an analysis and write its files; an error is a warning.

    Args:
        folder: where the files go, see :func:`write_analysis`.
        ground_truth: as for the evaluation.
        detections: likewise.
        result: of the evaluation.
        options: settings.
        dataset: its name or path.
    """
    kind = result.iou_type
    what = f"analysis of {kind} on {dataset}"
    with beside_results(what, files=analysis_files(folder, kind)):
        found = analyse(ground_truth, detections, result, options=options)
        logger.info("Behind %s:\n%s", kind, analysis_table(found))
        write_analysis(folder, found, dataset=dataset)
