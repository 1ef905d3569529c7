"""Which evaluator a data set gets."""

from __future__ import annotations

import logging
import os
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from lt_det.data.class_stats import ClassStats
from lt_det.data.datasets import class_names_of
from lt_det.data.image_datasets import EVALUATOR_TYPE
from lt_det.evaluation.classification_evaluator import ClassificationEvaluator
from lt_det.evaluation.coco_evaluator import LongTailCOCOEvaluator
from lt_det.evaluation.lvis_evaluator import LongTailLVISEvaluator
from lt_det.modeling.build import build_class_stats, model_num_classes

logger = logging.getLogger(__name__)


def build_evaluator(
    cfg: Any,
    dataset_name: str,
    output_folder: str | None = None,
    *,
    class_stats: ClassStats | None = None,
) -> DatasetEvaluator:
    """Return the evaluator for a data set, by its metadata's ``evaluator_type``.

    Args:
        cfg: config.
        dataset_name: registered name.
        output_folder: where results go; None is OUTPUT_DIR/inference.
        class_stats: of the training set, for APr / APc / APf and many / medium / few; None counts
            it, and where it is not on this machine the groups of the test json are taken.

    Raises:
        ValueError: if the data set has another number of classes than the model.
        NotImplementedError: if there is no evaluator for its type.
    """
    metadata = MetadataCatalog.get(dataset_name)
    names = metadata.get("thing_classes")
    if names is not None and len(names) != model_num_classes(cfg):
        raise ValueError(
            f"the model has {model_num_classes(cfg)} classes (NUM_CLASSES), DATASETS.TEST "
            f"{dataset_name!r} has {len(names)}"
        )
    if class_stats is None:
        try:
            class_stats = build_class_stats(cfg)
        except (KeyError, FileNotFoundError) as error:
            logger.warning("frequency groups are not those of the training set: %s", error)
    output_folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
    kind = metadata.get("evaluator_type")
    if kind == "lvis":
        return LongTailLVISEvaluator(
            dataset_name,
            output_dir=output_folder,
            max_dets_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
            class_stats=class_stats,
            backend=cfg.LT_DET.EVAL.BACKEND,
        )
    if kind == "coco":
        return LongTailCOCOEvaluator(
            dataset_name, output_dir=output_folder, class_stats=class_stats
        )
    if kind == EVALUATOR_TYPE:
        return ClassificationEvaluator(
            class_stats=class_stats,
            class_names=class_names_of(dataset_name),
            output_dir=output_folder,
            confidence=cfg.LT_DET.EVAL.CONFIDENCE,
        )
    raise NotImplementedError(
        f"data set {dataset_name!r} has evaluator_type {kind!r}; there are evaluators for "
        "'lvis', 'coco' and 'classification'. Set MetadataCatalog.get(name).evaluator_type, or "
        "override LongTailTrainer.build_evaluator"
    )
