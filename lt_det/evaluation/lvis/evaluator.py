"""Detectron2 evaluator for LVIS-format data sets with the groups of the training split."""

from __future__ import annotations

import lt_det.detectron2_required  # noqa: F401  # isort: skip

import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import detectron2.utils.comm as comm
import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils.file_io import PathManager

from lt_det.data.annotations.naming import MATCHED
from lt_det.data.stats.class_stats import ClassStats
from lt_det.evaluation.analysis.beside_ap import add_analysis
from lt_det.evaluation.analysis.options import AnalysisOptions
from lt_det.evaluation.beside_results import beside_results
from lt_det.evaluation.evaluated_classes import (
    category_ids_in_contiguous_order,
    groups_by_category_id,
    log_changed_groups,
)
from lt_det.evaluation.lvis.average_precision import (
    BACKENDS,
    IOU_TYPES,
    Backend,
    LVISAveragePrecision,
    lvis_average_precision,
)
from lt_det.evaluation.lvis.ground_truth import read_ground_truth
from lt_det.evaluation.lvis.json_evaluation import summary_table
from lt_det.evaluation.main_rank import arrays_on_main_rank, main_rank_result
from lt_det.evaluation.prediction_table import PredictionTable
from lt_det.evaluation.predictions import ImagePredictions
from lt_det.evaluation.results import (
    nothing_found,
    per_category_files,
    write_json_records,
    write_per_category,
)

logger = logging.getLogger(__name__)

# Category id of a class that a data set does not have.
_ABSENT = np.iinfo(np.int64).min


class LongTailLVISEvaluator(DatasetEvaluator):
    """LVIS AP, AP50, AP75, APs, APm, APl, APr, APc, APf for boxes and masks.

    The results have Detectron2's keys and differ from its LVISEvaluator in this: they are the same
    on every rank, a metric with nothing to average is nan (there -100), a model that finds nothing
    has AP 0 (there nan), and the groups come from ``class_stats``. Box proposals are not
    evaluated.

    Files in ``output_dir``: ``coco_instances_results.json`` (all detections, with the ids of the
    json), ``per_category_{bbox,segm}.{json,csv}``, and with ``analysis`` those of
    :func:`~lt_det.evaluation.analysis.files.write_analysis`. The AP of single categories is only
    there: thousands of them would swamp metrics.json. A file that cannot be written, or an error in
    the analysis, is a warning: the results are returned all the same.

    The other ranks wait for the main one; with backend "lvis-api" on all of LVIS that is longer
    than the default time-out of a process group (30 minutes).
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        max_dets_per_image: int = 300,
        class_stats: ClassStats | None = None,
        backend: Backend = "hotcoco",
        score_threshold: str = "",
        analysis: AnalysisOptions | None = None,
    ) -> None:
        """Read and check the ground truth of a registered data set.

        Args:
            dataset_name: registered with "json_file" in its metadata, in LVIS format.
            tasks: of "bbox" and "segm"; None evaluates masks if the model predicts them.
            distributed: evaluate the predictions of all ranks together, on the main one. False
                evaluates those of this process alone.
            output_dir: where the files go; None writes none.
            max_dets_per_image: highest scores counted for each image, over all classes. LVIS: 300.
            class_stats: statistics of the TRAINING set, from which r, c and f are; None takes
                "frequency" of the json.
            backend: see :func:`lvis_average_precision`.
            score_threshold: key and value of the model's, for the message where it finds nothing.
            analysis: what is said beside AP, in the log and in files; None is nothing.

        Raises:
            ValueError: if the data set has no json, or classes, ids or options do not fit.
        """
        unknown = [task for task in tasks or () if task not in IOU_TYPES]
        if unknown:
            raise ValueError(f"tasks: expected some of {IOU_TYPES}, got {unknown}")
        if backend not in BACKENDS:
            raise ValueError(f"backend: expected one of {tuple(BACKENDS)}, got {backend!r}")
        metadata = MetadataCatalog.get(dataset_name)
        json_file = getattr(metadata, "json_file", None)
        if json_file is None:
            raise ValueError(
                f"dataset_name: {dataset_name!r} has no 'json_file' in its metadata; register it "
                "with lt_det.data.annotations.datasets.register_lvis_format, or use "
                "LongTailCOCOEvaluator"
            )
        self._dataset_name = dataset_name
        self._tasks = tuple(tasks) if tasks else None
        self._distributed = distributed
        self._output_dir = output_dir
        self._max_dets_per_image = max_dets_per_image
        self._backend: Backend = backend
        self._score_threshold = score_threshold
        self._analysis = analysis

        with_masks = tasks is None or "segm" in tasks
        ground_truth = read_ground_truth(
            PathManager.get_local_path(json_file), with_masks=with_masks, name=dataset_name
        )
        if metadata.get(MATCHED):
            ground_truth = ground_truth.of_categories(metadata.thing_dataset_id_to_contiguous_id)
        self._category_ids = category_ids_in_contiguous_order(
            metadata, ground_truth.category_ids, dataset_name=dataset_name
        )
        self._groups = groups_by_category_id(
            class_stats, self._category_ids, metadata.get("thing_classes")
        )
        if self._groups is not None:
            log_changed_groups(self._groups, ground_truth.frequency_groups() or {})
        # Only the main rank evaluates; the annotations would lie in memory once for each process.
        evaluates_here = not distributed or comm.is_main_process()
        self._ground_truth = ground_truth if evaluates_here else None
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self._predictions: list[ImagePredictions] = []

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping]) -> None:
        """Keep the predictions of a batch.

        Args:
            inputs: one dictionary an image, with "image_id".
            outputs: for each the model's dictionary, with "instances".

        Raises:
            ValueError: if a box or a score is not finite; names the image.
        """
        for image, output in zip(inputs, outputs):
            self._predictions.append(
                ImagePredictions.from_instances(output["instances"], image_id=image["image_id"])
            )

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Return task -> metric -> percent, the same on every rank.

        Returns:
            "bbox" and "segm", each with the nine metrics. Empty if nothing was predicted, or if
            the json has no annotations (a test set; the detections are written all the same).

        Raises:
            ValueError: if the predictions do not belong to the data set.
            RuntimeError: on the other ranks, if the main one failed.
        """

        def gather_and_evaluate(
            arrays: dict[str, Any],
        ) -> OrderedDict[str, dict[str, float]]:
            if self._distributed:
                arrays = arrays_on_main_rank(arrays)
                if not comm.is_main_process():
                    return OrderedDict()
            return self._evaluate(PredictionTable.of_arrays(arrays))

        return main_rank_result(
            lambda: PredictionTable.of_images(self._predictions).arrays(),
            gather_and_evaluate,
            distributed=self._distributed,
        )

    def _evaluate(self, predictions: PredictionTable) -> OrderedDict[str, dict[str, float]]:
        ground_truth = self._ground_truth
        if ground_truth is None:  # process group made after the evaluator
            raise RuntimeError("make the evaluator after torch.distributed is initialised")
        if not len(predictions.image_ids):
            logger.warning("No image of %s was predicted: nothing to evaluate", self._dataset_name)
            return OrderedDict()
        tasks = self._tasks or predictions.tasks()
        self._check_images(set(predictions.image_ids.tolist()), ground_truth.image_ids)
        detections = predictions.detections(
            category_ids=[_ABSENT if i is None else i for i in self._category_ids],
            with_masks="segm" in tasks,
        )
        if None in self._category_ids:
            judged = np.flatnonzero(detections.category_ids != _ABSENT)
            logger.info(
                "%d detections are of classes that %s does not have: left out",
                len(detections) - len(judged),
                self._dataset_name,
            )
            detections = detections.take(judged)
        if self._output_dir:
            path = os.path.join(self._output_dir, "coco_instances_results.json")
            # Without annotations the file is the result, so that its error is one.
            has_ap = bool(ground_truth.annotations)
            with beside_results(f"writing {path}", files=[path]) if has_ap else nullcontext():
                write_json_records(path, detections.records(), count=len(detections))
        if not ground_truth.annotations:
            logger.info("%s has no annotations: no AP", self._dataset_name)
            return OrderedDict()
        if not len(detections):
            logger.warning(nothing_found(self._dataset_name, self._score_threshold))
        results: OrderedDict[str, LVISAveragePrecision] = OrderedDict()
        for task in sorted(tasks):
            results[task] = lvis_average_precision(
                ground_truth,
                detections,
                iou_type=task,  # type: ignore[arg-type]
                max_dets=self._max_dets_per_image,
                frequency_groups=self._groups,
                backend=self._backend,
            )
            self._report(results[task])
        if self._analysis and self._output_dir:  # after all AP: it takes long and may fail
            options, name = self._analysis, self._dataset_name
            for result in results.values():
                add_analysis(
                    self._output_dir,
                    ground_truth,
                    detections,
                    result,
                    options=options,
                    dataset=name,
                )
        return OrderedDict((task, dict(result.summary)) for task, result in results.items())

    def _check_images(self, predicted: set[int], known: set[int]) -> None:
        unknown = sorted(predicted - known)
        if unknown:
            raise ValueError(
                f"{len(unknown)} predicted images are not in the json of {self._dataset_name!r}, "
                f"first image_id {unknown[:5]}; is the data loader of the same data set?"
            )
        if len(predicted) < len(known):
            logger.warning(
                "Only %d of %d images of %s were predicted; the others count as without detections",
                len(predicted),
                len(known),
                self._dataset_name,
            )

    def _report(self, result: LVISAveragePrecision) -> None:
        logger.info("%s on %s:\n%s", result.iou_type, self._dataset_name, summary_table(result))
        if not self._output_dir:
            return
        files = per_category_files(self._output_dir, result.iou_type)
        with beside_results(f"writing {files[0]}", files=files):
            write_per_category(
                self._output_dir,
                iou_type=result.iou_type,
                summary=result.summary,
                categories=result.category_rows(),
                about={
                    "dataset": self._dataset_name,
                    "max_dets": result.max_dets,
                    "backend": result.backend,
                },
            )
