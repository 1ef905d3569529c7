"""Choose the evaluator of a data set."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from lt_det.data.annotations.class_matching import check_evaluation_json, match_classes
from lt_det.data.annotations.datasets import check_registered, class_names_of, use_own_classes
from lt_det.data.annotations.json_file import check_exists
from lt_det.data.images.datasets import EVALUATOR_TYPE, HELD_OUT, take_classes
from lt_det.data.images.first_look import check_image_files
from lt_det.data.stats.class_stats import ClassStats
from lt_det.engine.best_checkpoint import check_metric, group_of, warn_if_undefined
from lt_det.engine.detection_limits import check_nms_thresholds
from lt_det.engine.evaluated_model import classes_of_checkpoint, evaluated_model
from lt_det.engine.loading.evaluated_images import check_evaluated_images
from lt_det.engine.score_threshold import threshold_text, warn_of_score_threshold
from lt_det.engine.startup.number_bounds import check_bounds, check_lvis_limit
from lt_det.evaluation.analysis.options import MODES, options_of_mode
from lt_det.evaluation.classification.evaluator import ClassificationEvaluator
from lt_det.evaluation.coco_evaluator import LongTailCOCOEvaluator
from lt_det.evaluation.lvis.backends import check_backend
from lt_det.evaluation.lvis.evaluator import LongTailLVISEvaluator
from lt_det.tasks import Task, build_class_stats, build_task

logger = logging.getLogger(__name__)

_KINDS = ("lvis", "coco", EVALUATOR_TYPE)


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
        output_folder: where results go; None is OUTPUT_DIR/inference, with several test sets
            OUTPUT_DIR/inference/NAME.
        class_stats: of the training set, for APr / APc / APf and many / medium / few; None takes
            those of the model under evaluation or counts the set, and where it is not on this
            machine the groups of the test json are taken.

    Raises:
        ValueError: if the data set has another number of classes than the model.
        NotImplementedError: if there is no evaluator for its type.
    """
    _check_classes(build_task(cfg), dataset_name)
    class_stats = class_stats or evaluated_model().class_stats or _class_stats_if_here(cfg)
    if output_folder is None:
        several = len(cfg.DATASETS.TEST) > 1
        parts = ["inference", dataset_name] if several else ["inference"]
        output_folder = os.path.join(cfg.OUTPUT_DIR, *parts)
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind == "lvis":
        return LongTailLVISEvaluator(
            dataset_name,
            output_dir=output_folder,
            max_dets_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
            class_stats=class_stats,
            backend=cfg.LT_DET.EVAL.BACKEND,
            score_threshold=threshold_text(cfg),
            analysis=options_of_mode(cfg.LT_DET.EVAL.ANALYSIS),
        )
    if kind == "coco":
        return LongTailCOCOEvaluator(
            dataset_name,
            output_dir=output_folder,
            class_stats=class_stats,
            score_threshold=threshold_text(cfg),
            kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
        )
    if kind == EVALUATOR_TYPE:
        return ClassificationEvaluator(
            class_stats=class_stats,
            class_names=class_names_of(dataset_name),
            output_dir=output_folder,
            confidence=cfg.LT_DET.EVAL.CONFIDENCE,
        )
    raise NotImplementedError(_no_evaluator(dataset_name, kind))


def check_test_sets(cfg: Any, *, class_names: Sequence[str] | None = None) -> None:
    """Raise where :func:`build_evaluator` would, before hours of training and not after.

    All data sets get the class ids of the training set, matched by name; images to classify and
    ground truth are read for it.

    Args:
        cfg: config.
        class_names: of the training set; None reads it, where it is on this machine.

    Raises:
        KeyError: if a data set of DATASETS.TEST is not registered.
        FileNotFoundError: if its json or its images are missing.
        ValueError: if there is no evaluator for it, it has other classes than the training set or
            another number of them than the model, or LT_DET.EVAL is out of range.
        ImportError: if LT_DET.EVAL.BACKEND is not installed.
    """
    task = build_task(cfg)
    check_metric(cfg)
    if cfg.LT_DET.EVAL.ANALYSIS not in MODES:
        raise ValueError(
            f"LT_DET.EVAL.ANALYSIS must be one of {MODES}, got {cfg.LT_DET.EVAL.ANALYSIS!r}"
        )
    thresholds = cfg.LT_DET.EVAL.NMS_THRESHOLDS
    check_nms_thresholds(thresholds, is_detector=not task.one_class_an_image)
    if class_names is None:
        class_names = _training_classes(task)
    for name in cfg.DATASETS.TEST:
        try:
            check_registered(name)
        except KeyError as error:
            hint = ""
            if name.endswith(HELD_OUT) and task.one_class_an_image:
                hint = (
                    "LT_DET.CLASSIFICATION.HELD_OUT, such as 0.1, registers it, of the data set "
                    f"{name[: -len(HELD_OUT)]!r} in DATASETS.TRAIN; now it is "
                    f"{cfg.LT_DET.CLASSIFICATION.HELD_OUT}. "
                )
            raise KeyError(f"DATASETS.TEST: {hint}{error.args[0]}") from error
        metadata = MetadataCatalog.get(name)
        kind = metadata.get("evaluator_type")
        if kind not in _KINDS:
            raise ValueError(f"DATASETS.TEST: {_no_evaluator(name, kind)}")
        json_file = os.fspath(metadata.get("json_file") or "")
        if json_file and "://" not in json_file:
            check_exists(json_file, name=name)
        if kind != EVALUATOR_TYPE:
            _check_detection_set(cfg, name, class_names)
        if kind == EVALUATOR_TYPE:
            _check_images(cfg, name, class_names)
        _check_classes(task, name)
        if kind == "lvis":
            check_lvis_limit(cfg, name)
            try:
                check_backend(cfg.LT_DET.EVAL.BACKEND)
            except (ImportError, ValueError) as error:
                raise type(error)(
                    f"LT_DET.EVAL.BACKEND {cfg.LT_DET.EVAL.BACKEND!r}, which evaluates "
                    f"DATASETS.TEST {name!r} (set it () to train only): {error}"
                ) from error


def _check_detection_set(cfg: Any, name: str, class_names: Sequence[str] | None) -> None:
    """Read the ground truth, match its classes, and warn of what would change AP."""
    counts = check_evaluation_json(name)
    if class_names is not None:
        match_classes(name, class_names, counts)
    if counts is not None:
        pairs = zip(counts.class_names, counts.instance_counts)
        _warn_if_undefined(cfg, name, {one for one, count in pairs if count})
    metadata = MetadataCatalog.get(name)
    warn_of_score_threshold(cfg, name, metadata.evaluator_type)
    check_evaluated_images(name)


def prepare_evaluation(cfg: Any, *, resume: bool, check_sets: bool = True) -> Any:
    """Return the config to evaluate a checkpoint with: its test sets checked, its classes known.

    Args:
        cfg: config.
        resume: OUTPUT_DIR's last checkpoint, if there is one, and not MODEL.WEIGHTS.
        check_sets: False where evaluators of another kind do that.

    Raises:
        ValueError: as :func:`~lt_det.engine.startup.number_bounds.check_bounds`,
            :func:`~lt_det.engine.evaluated_model.classes_of_checkpoint` or
            :func:`check_test_sets`.
        KeyError: as the latter.
        FileNotFoundError: as the latter.
        ImportError: as the latter.
    """
    check_bounds(cfg, trains=False)
    cfg, class_names = classes_of_checkpoint(cfg, resume=resume)
    if check_sets:
        check_test_sets(cfg, class_names=class_names)
    return cfg


def _check_images(cfg: Any, name: str, class_names: Sequence[str] | None) -> None:
    if not 0 < cfg.LT_DET.EVAL.CONFIDENCE < 1:
        raise ValueError(
            "LT_DET.EVAL.CONFIDENCE must be above 0 and below 1, such as 0.95, got "
            f"{cfg.LT_DET.EVAL.CONFIDENCE}"
        )
    if cfg.LT_DET.CLASSIFICATION.TEST_IMS_PER_BATCH < 1:
        raise ValueError(
            "LT_DET.CLASSIFICATION.TEST_IMS_PER_BATCH must be at least 1, got "
            f"{cfg.LT_DET.CLASSIFICATION.TEST_IMS_PER_BATCH}"
        )
    if class_names is None:
        class_names_of(name)  # reads it
    else:
        try:
            take_classes(name, class_names)
        except ValueError as error:
            raise ValueError(f"DATASETS.TEST: {error}") from error
    check_image_files(DatasetCatalog.get(name), what=f"DATASETS.TEST {name!r}")
    if class_names is not None and group_of(cfg.LT_DET.BEST_CHECKPOINT):
        present = {class_names[record["category_id"]] for record in DatasetCatalog.get(name)}
        _warn_if_undefined(cfg, name, present)


def _warn_if_undefined(cfg: Any, name: str, present: set[str]) -> None:
    """Warn if LT_DET.BEST_CHECKPOINT has no value on a test set with objects of these classes."""
    metric = cfg.LT_DET.BEST_CHECKPOINT
    if not metric:
        return
    stats = _class_stats_if_here(cfg) if group_of(metric) else None
    if group_of(metric) and stats is None:
        return
    groups = (
        {}
        if stats is None
        else {
            group: [stats.class_names[k] for k in members.tolist()]
            for group, members in stats.group_members().items()
        }
    )
    warn_if_undefined(metric, name, present, groups)


def _training_classes(task: Task) -> list[str] | None:
    try:
        name = task.counted_sets[0]
        check_registered(name)
        use_own_classes(name)
        return class_names_of(name)
    except (IndexError, KeyError, FileNotFoundError):
        return None


def _check_classes(task: Task, dataset_name: str) -> None:
    names = MetadataCatalog.get(dataset_name).get("thing_classes")
    if names is not None and len(names) != task.num_classes():
        raise ValueError(
            f"the model has {task.num_classes()} classes (NUM_CLASSES), DATASETS.TEST "
            f"{dataset_name!r} has {len(names)}"
        )


def _class_stats_if_here(cfg: Any) -> ClassStats | None:
    """Return the statistics of the training set, None with a warning where there is none."""
    reason: object = "DATASETS.TRAIN is empty"
    if build_task(cfg).counted_sets:
        try:
            return build_class_stats(cfg)
        except (KeyError, FileNotFoundError) as error:
            reason = error
    logger.warning("frequency groups are not those of the training set: %s", reason)
    return None


def _no_evaluator(dataset_name: str, kind: object) -> str:
    return (
        f"data set {dataset_name!r} has evaluator_type {kind!r}; there are evaluators for "
        f"{', '.join(map(repr, _KINDS))}. Set MetadataCatalog.get(name).evaluator_type, or "
        "override LongTailTrainer.build_evaluator"
    )
