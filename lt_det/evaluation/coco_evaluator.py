"""Detectron2's COCO evaluator with AP of rare, common and frequent classes."""

from __future__ import annotations

import lt_det.detectron2_required  # noqa: F401  # isort: skip

import contextlib
import io
import itertools
import logging
from collections import Counter, OrderedDict
from collections.abc import Container, Sequence
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.evaluation import COCOEvaluator

from lt_det.data.annotations.areas import areas_of, image_sizes
from lt_det.data.annotations.checks import check_annotations, is_crowd
from lt_det.data.annotations.datasets import MATCHED
from lt_det.data.stats.class_stats import ClassStats
from lt_det.data.stats.frequency_groups import GROUP_NAMES
from lt_det.data.warn_once import warn_of
from lt_det.evaluation.beside_results import beside_results
from lt_det.evaluation.lvis.average_precision import mean_precision
from lt_det.evaluation.main_rank import main_rank_result
from lt_det.evaluation.results import nothing_found, per_category_files, write_per_category

logger = logging.getLogger(__name__)

# Rows of the IoU thresholds 0.5, 0.55, ..., 0.95.
_IOU_50, _IOU_75 = 0, 5


class LongTailCOCOEvaluator(COCOEvaluator):
    """Detectron2's COCOEvaluator plus "APr", "APc" and "APf", the same on every rank.

    The added metrics are the mean over the classes of a group of COCO's AP per class, in percent,
    nan if no class of the group has ground truth. All other keys and files are Detectron2's.
    With ``output_dir`` the classes are written to ``per_category_{bbox,segm}.{json,csv}``.
    """

    _metadata: Any

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        class_stats: ClassStats | None = None,
        score_threshold: str = "",
        use_fast_impl: bool = True,
        **kwargs: Any,
    ) -> None:
        """See COCOEvaluator; its own are ``class_stats`` and ``score_threshold``.

        Args:
            dataset_name: registered with Detectron2.
            tasks: of "bbox", "segm" and "keypoints"; None infers them from the predictions.
            distributed: evaluate the predictions of all ranks together.
            output_dir: where files go; None writes none.
            class_stats: statistics of the TRAINING set, from which r, c and f are; without it the
                three metrics are nan.
            score_threshold: key and value of the model's, for the message where it finds nothing.
            use_fast_impl: use Detectron2's compiled COCO metric where it is built.
            kwargs: passed on.

        Raises:
            ValueError: if ``class_stats`` has other classes than the data set.
        """
        if not hasattr(COCOEvaluator, "_derive_coco_results"):
            raise RuntimeError(
                "this Detectron2 has no COCOEvaluator._derive_coco_results, from which "
                "LongTailCOCOEvaluator takes AP per class; use COCOEvaluator, and report it"
            )
        super().__init__(
            dataset_name,
            tasks,
            distributed,
            output_dir,
            use_fast_impl=use_fast_impl and fast_coco_metric_is_built(),
            **kwargs,
        )
        if self._do_evaluation:
            _mend_ground_truth(self._coco_api, dataset_name)
        self._lt_absent: set[int] = set()
        if self._metadata.get(MATCHED):
            self._leave_out_absent_classes(dataset_name)
        class_names = MetadataCatalog.get(dataset_name).get("thing_classes")
        if class_stats is None:
            logger.warning("APr, APc and APf will be nan: no class_stats of the training set given")
        elif class_names is not None and tuple(class_names) != class_stats.class_names:
            differing = [p for p in zip(class_stats.class_names, class_names) if p[0] != p[1]]
            raise ValueError(
                f"class_stats of {class_stats.name!r} has {class_stats.num_classes} classes, "
                f"{dataset_name!r} {len(class_names)}; first that differ: {differing[:3]}. "
                "Training and evaluation need the same classes in the same order"
            )
        self._lt_dataset_name = dataset_name
        self._lt_class_stats = class_stats
        self._lt_output_dir = output_dir
        self._lt_score_threshold = score_threshold
        self._lt_distributed = distributed

    def _leave_out_absent_classes(self, dataset_name: str) -> None:
        """Restrict the metric to the classes that the training set has too."""
        mapping = dict(self._metadata.thing_dataset_id_to_contiguous_id)
        _keep_categories(self._coco_api, mapping)
        absent = sorted(set(range(len(self._metadata.thing_classes))) - set(mapping.values()))
        # Detectron2 wants an id for every class; no prediction is left that could get these.
        free = itertools.count(max(mapping) + 1)
        mapping.update(zip(free, absent))
        values = {**self._metadata.as_dict(), "thing_dataset_id_to_contiguous_id": mapping}
        self._metadata = Metadata(**{**values, "name": f"{dataset_name} (matched)"})
        self._lt_absent = set(absent)

    def _eval_predictions(self, predictions: Any, img_ids: Sequence[int] | None = None) -> None:
        if self._lt_absent:
            for image in predictions:
                image["instances"] = [
                    one for one in image["instances"] if one["category_id"] not in self._lt_absent
                ]
        super()._eval_predictions(predictions, img_ids=img_ids)

    def evaluate(self, img_ids: Sequence[int] | None = None) -> OrderedDict[str, Any]:
        """Return task -> metric -> percent, the same on every rank.

        Args:
            img_ids: images to evaluate; None for all.
        """
        base_evaluate = super().evaluate
        return main_rank_result(lambda: img_ids, base_evaluate, distributed=self._lt_distributed)

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: Sequence[str] | None = None
    ) -> dict[str, float]:
        if coco_eval is None:
            logger.warning(nothing_found(self._lt_dataset_name, self._lt_score_threshold))
        if coco_eval is not None and class_names:
            class_names = self._in_order_of_metric(coco_eval, class_names)
        results = super()._derive_coco_results(coco_eval, iou_type, class_names=class_names)
        if iou_type == "keypoints":
            return results
        rows = [] if coco_eval is None else self._category_rows(coco_eval, class_names)
        for group in GROUP_NAMES:
            aps = np.array([row["AP"] for row in rows if row["group"] == group])
            aps = aps[~np.isnan(aps)]
            results[f"AP{group}"] = float(aps.mean()) if aps.size else float("nan")
        logger.info(
            "%s: APr %.3f, APc %.3f, APf %.3f",
            iou_type,
            *(results[f"AP{group}"] for group in GROUP_NAMES),
        )
        if self._lt_output_dir and rows:
            files = per_category_files(self._lt_output_dir, iou_type)
            with beside_results(f"writing {files[0]}", files=files):
                write_per_category(
                    self._lt_output_dir,
                    iou_type=iou_type,
                    # Detectron2 puts the classes among the metrics, as "AP-name".
                    summary={k: v for k, v in results.items() if not k.startswith("AP-")},
                    categories=rows,
                    about={"dataset": self._lt_dataset_name, "backend": "coco"},
                )
        return results

    def _in_order_of_metric(self, coco_eval: Any, of_classes: Sequence[Any]) -> list[Any]:
        """Return one item for each rising category id, from items by contiguous id."""
        mapping = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if not mapping:
            return list(of_classes)
        return [of_classes[mapping[i]] for i in coco_eval.params.catIds]

    def _category_rows(
        self, coco_eval: Any, class_names: Sequence[str] | None
    ) -> list[dict[str, Any]]:
        """Return one row a class, in the order of the metric: rising category ids.

        ``class_names`` are in that order already.
        """
        # (thresholds, recalls, classes, areas, limits): all areas, the highest limit.
        precision = coco_eval.eval["precision"][:, :, :, 0, -1]
        category_ids = coco_eval.params.catIds
        stats = self._lt_class_stats
        groups: Sequence[str | None] = (
            self._in_order_of_metric(coco_eval, stats.frequency_groups)
            if stats
            else [None] * len(category_ids)
        )
        names = class_names or [coco_eval.cocoGt.cats[i]["name"] for i in category_ids]
        evaluated = set(coco_eval.params.imgIds)
        objects = [
            (annotation["category_id"], annotation["image_id"])
            for annotation in coco_eval.cocoGt.anns.values()
            if not annotation.get("iscrowd", 0) and annotation["image_id"] in evaluated
        ]
        num_instances = Counter(category_id for category_id, _ in objects)
        num_images = Counter(category_id for category_id, _ in set(objects))
        return [
            {
                "category_id": int(category_id),
                "name": names[k],
                "group": groups[k],
                "num_gt_instances": num_instances[category_id],
                "num_gt_images": num_images[category_id],
                "AP": mean_precision(precision[:, :, k]),
                "AP50": mean_precision(precision[_IOU_50, :, k]),
                "AP75": mean_precision(precision[_IOU_75, :, k]),
            }
            for k, category_id in enumerate(category_ids)
        ]


def _mend_ground_truth(coco: Any, name: str) -> None:
    """Complete annotations for the metric, in place: ids 1, 2, ..., areas, crowd flags.

    The metric takes an object with id 0 for unmatched and one of two with the same id for the
    other, orders sizes by ``area``, and takes "0" for a crowd.
    """
    annotations = coco.dataset["annotations"]
    warn_of(check_annotations(coco.dataset, name=name), name=name)
    areas = areas_of(annotations, image_sizes(coco.dataset["images"]), name=name)
    for number, (annotation, area) in enumerate(zip(annotations, areas), start=1):
        annotation.update(id=number, area=float(area), iscrowd=int(is_crowd(annotation)))
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()


def _keep_categories(coco: Any, category_ids: Container[int]) -> None:
    """Drop the other categories, and their annotations, in place."""
    dataset = coco.dataset
    dataset["categories"] = [c for c in dataset["categories"] if c["id"] in category_ids]
    if "annotations" in dataset:
        kept = [a for a in dataset["annotations"] if a["category_id"] in category_ids]
        dataset["annotations"] = kept
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()


def fast_coco_metric_is_built() -> bool:
    """Return whether Detectron2's compiled extension is there and has the COCO metric."""
    try:
        from detectron2 import _C
    except ImportError:
        return False
    return hasattr(_C, "COCOevalEvaluateImages") and hasattr(_C, "COCOevalAccumulate")
