"""From config to losses: the only reader of LT_DET.LOSS*, CLASS_WEIGHTS, DEFER, CLASS_STATS."""

from __future__ import annotations

import functools
import logging
from dataclasses import fields
from typing import Any

import torch
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.utils.events import get_event_storage
from torch import Tensor

from lt_det.data.class_prior import counts_with_background
from lt_det.data.class_stats import ClassStats, Unit
from lt_det.data.datasets import class_names_of, class_stats_of, register_from_config
from lt_det.data.image_datasets import register_images_from_config
from lt_det.losses import get_loss
from lt_det.losses.base_criterion import BaseCriterion
from lt_det.losses.class_weights import ClassWeights
from lt_det.losses.criterion import Criterion
from lt_det.losses.deferred import DeferredCriterion
from lt_det.modeling.deferral import check_deferral, deferral_start, defers_loss

logger = logging.getLogger(__name__)


def build_class_stats(cfg: Any) -> ClassStats:
    """Return the class statistics of the training set, checked against NUM_CLASSES.

    Reads LT_DET.CLASS_STATS.DATASETS, or DATASETS.TRAIN where that is empty.

    Raises:
        ValueError: if no training set is named, the number of classes is another one than the
            model's, or the counted sets have other classes than those of DATASETS.TRAIN.
    """
    node = cfg.LT_DET.CLASS_STATS
    register_datasets(cfg)
    names = training_sets(cfg)
    if not names:
        raise ValueError(
            "DATASETS.TRAIN is empty: class statistics need the training set. Name it there or "
            "in LT_DET.CLASS_STATS.DATASETS"
        )
    rare_max, common_max = group_limits(cfg)
    stats = class_stats_of(
        names, count_source=node.SOURCE, rare_max=rare_max, common_max=common_max
    )
    num_classes = model_num_classes(cfg)
    if stats.num_classes != num_classes:
        raise ValueError(
            f"{_num_classes_key(cfg)} is {num_classes}, but data set {stats.name!r} has "
            f"{stats.num_classes} classes: set {_num_classes_key(cfg)} {stats.num_classes}"
        )
    for name in cfg.DATASETS.TRAIN if node.DATASETS else ():
        trained = class_names_of(name)
        differing = [pair for pair in zip(trained, stats.class_names) if pair[0] != pair[1]]
        if differing or len(trained) != stats.num_classes:
            raise ValueError(
                f"LT_DET.CLASS_STATS.DATASETS {stats.name!r} and DATASETS.TRAIN {name!r} must have "
                f"the same classes in the same order, got {stats.num_classes} and {len(trained)}; "
                f"{len(differing)} differ, first {differing[:3]}"
            )
    return stats


def group_limits(cfg: Any) -> tuple[int, int]:
    """Return the most images of a rare and of a common class.

    Raises:
        ValueError: for images to classify, if LT_DET.CLASSIFICATION's are no limits.
    """
    if is_image_classifier(cfg):
        shots = cfg.LT_DET.CLASSIFICATION
        if not 0 <= shots.FEW_MAX < shots.MEDIUM_MAX:
            raise ValueError(
                "LT_DET.CLASSIFICATION must have 0 <= FEW_MAX < MEDIUM_MAX, got "
                f"{shots.FEW_MAX} and {shots.MEDIUM_MAX}"
            )
        return shots.FEW_MAX, shots.MEDIUM_MAX
    node = cfg.LT_DET.CLASS_STATS
    return node.RARE_MAX, node.COMMON_MAX


def training_sets(cfg: Any) -> tuple[str, ...]:
    """Return the data sets whose classes are counted; empty if none is named."""
    return tuple(cfg.LT_DET.CLASS_STATS.DATASETS) or tuple(cfg.DATASETS.TRAIN)


def register_datasets(cfg: Any) -> None:
    """Register the data sets that the config describes; those that are, are left alone."""
    register_from_config(cfg.LT_DET.DATASETS)
    images = cfg.LT_DET.CLASSIFICATION
    register_images_from_config(
        images.DATASETS,
        long_tailed=(*cfg.DATASETS.TRAIN, *cfg.LT_DET.CLASS_STATS.DATASETS),
        imbalance_factor=images.IMBALANCE_FACTOR,
        seed=images.SUBSET_SEED,
        held_out=images.HELD_OUT,
    )


def is_image_classifier(cfg: Any) -> bool:
    """Return whether the configured model classifies images: no boxes and no background."""
    return cfg.MODEL.META_ARCHITECTURE == "LongTailImageClassifier"


def model_num_classes(cfg: Any) -> int:
    """Return K, the number of foreground classes of the configured model.

    LT_DET.CLASSIFICATION.NUM_CLASSES 0 is that of the training set, or where there is none of the
    test set.

    Raises:
        ValueError: if it is 0 and no data set is named.
    """
    node = cfg
    for part in _num_classes_key(cfg).split("."):
        node = getattr(node, part)
    if node == 0 and is_image_classifier(cfg):
        names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
        if not names:
            raise ValueError(
                f"{_num_classes_key(cfg)} is 0, from the data set, but DATASETS.TRAIN and "
                "DATASETS.TEST are empty"
            )
        register_datasets(cfg)
        return len(class_names_of(names[0]))
    return int(node)


def _num_classes_key(cfg: Any) -> str:
    if is_image_classifier(cfg):
        return "LT_DET.CLASSIFICATION.NUM_CLASSES"
    name = cfg.MODEL.META_ARCHITECTURE
    architecture = META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else None
    # A function may be registered as well.
    if isinstance(architecture, type) and issubclass(architecture, RetinaNet):
        return "MODEL.RETINANET.NUM_CLASSES"
    return "MODEL.ROI_HEADS.NUM_CLASSES"


def bound_counts(
    stats: ClassStats, *, kind: str, unit: Unit, background: bool = True
) -> tuple[Tensor, int]:
    """Return the class counts a loss of ``kind`` wants, float64, and the number of images.

    Args:
        stats: statistics of the training set.
        kind: "softmax" gets K + 1 counts, background last; "sigmoid" K.
        unit: "image" or "instance".
        background: False where no logit is for the background: K counts for both kinds.
    """
    counts = stats.counts(unit)
    if kind == "softmax" and background:
        counts = counts_with_background(counts)
    return torch.from_numpy(counts), stats.num_images


def build_criterion(cfg: Any) -> BaseCriterion:
    """Return the configured loss; its class counts are read at the first training batch.

    So a model can be built for inference where the training set is not.

    Raises:
        ValueError: if LT_DET.DEFER or LT_DET.CLASS_WEIGHTS contradicts itself or changes nothing.
    """
    node = cfg.LT_DET
    check_deferral(cfg)
    after = _undeferred(cfg, node.LOSS, class_weights=_class_weights(cfg))
    if not defers_loss(cfg):
        return after
    return DeferredCriterion(
        _undeferred(cfg, node.DEFER.LOSS or node.LOSS, class_weights=None),
        after,
        start_iteration=functools.partial(_start_of_criterion, cfg.clone(), after),
        current_iteration=storage_iteration,
    )


def _start_of_criterion(cfg: Any, criterion: Criterion) -> int:
    return deferral_start(cfg, criterion.annotated_images)


def storage_iteration() -> int | None:
    """Return the iteration of Detectron2's event storage, from 0; None outside of a trainer.

    Trainers of Detectron2 restore it on resume.
    """
    try:
        return int(get_event_storage().iter)
    except AssertionError:  # Detectron2's answer where there is no storage
        return None


def _class_weights(cfg: Any) -> ClassWeights | None:
    node = cfg.LT_DET.CLASS_WEIGHTS
    if not node.NAME:
        defaults = {"NAME": "", **{f.name.upper(): f.default for f in fields(ClassWeights)[1:]}}
        changed = [
            f"LT_DET.CLASS_WEIGHTS.{key} {value!r}"
            for key, value in node.items()
            if value != defaults[key]
        ]
        if changed:
            raise ValueError(
                f"{' and '.join(changed)} would do nothing: set LT_DET.CLASS_WEIGHTS.NAME "
                "effective_number or inverse_frequency"
            )
        return None
    return ClassWeights(
        node.NAME,
        beta=node.BETA,
        normalisation=node.NORMALISATION,
        denominator=node.DENOMINATOR,
        background=get_loss(cfg.LT_DET.LOSS).kind == "softmax" and not is_image_classifier(cfg),
    )


def _undeferred(cfg: Any, name: str, *, class_weights: ClassWeights | None) -> Criterion:
    parameters = {
        key.lower(): value for key, value in cfg.LT_DET.LOSS_PARAMS.get(name.upper(), {}).items()
    }
    criterion = Criterion(name, class_weights=class_weights, **parameters)
    weighs_all = class_weights is not None and not criterion.mean_is_over_weights
    key = criterion.spec.weighs_classes_by
    if weighs_all and key and criterion.hyperparameters[key]:
        logger.warning(
            "LT_DET.CLASS_WEIGHTS multiply the bonus of %s, which LT_DET.LOSS_PARAMS.%s.%s %s "
            "weighs by class already: set %s 0.0, or the release's EL+CB, "
            "LT_DET.CLASS_WEIGHTS.DENOMINATOR weights",
            name,
            name.upper(),
            key.upper(),
            criterion.hyperparameters[key],
            key.upper(),
        )
    # No function of this one's own: a model with it could not be pickled.
    criterion.load_counts = functools.partial(_load_counts, cfg.clone(), kind=criterion.kind)
    return criterion


def _load_counts(cfg: Any, *, kind: str) -> tuple[Tensor, int]:
    return bound_counts(
        build_class_stats(cfg),
        kind=kind,
        unit=cfg.LT_DET.CLASS_STATS.UNIT,
        background=not is_image_classifier(cfg),
    )


def build_prior(cfg: Any) -> dict[str, Any]:
    """Return "prior_prob" (float) and "prior_counts" (``(K,)`` or None) of sigmoid classifiers.

    Reads LT_DET.PRIOR_PROB and LT_DET.PRIOR. Where the training set is absent there is nothing
    to train either: the counts are then None, and the weights to load bring their own bias.

    Raises:
        ValueError: if LT_DET.PRIOR is unknown.
    """
    prior, prior_counts = cfg.LT_DET.PRIOR, None
    if prior not in ("constant", "class"):
        raise ValueError(f"LT_DET.PRIOR must be 'constant' or 'class', got {prior!r}")
    if prior == "class":
        try:
            stats = build_class_stats(cfg) if training_sets(cfg) else None
        except (KeyError, OSError) as error:
            logger.info("training set: %s", error)
            stats = None
        if stats is None:
            logger.warning("LT_DET.PRIOR 'class' without its training set: bias of PRIOR_PROB")
        else:
            prior_counts, _ = bound_counts(stats, kind="sigmoid", unit=cfg.LT_DET.CLASS_STATS.UNIT)
    return {"prior_prob": float(cfg.LT_DET.PRIOR_PROB), "prior_counts": prior_counts}
