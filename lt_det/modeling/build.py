"""From config to losses: the only reader of LT_DET.LOSS* and LT_DET.CLASS_STATS."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from lt_det.data.class_prior import counts_with_background
from lt_det.data.class_stats import ClassStats, Unit
from lt_det.data.datasets import class_stats_of, register_from_config
from lt_det.losses.criterion import Criterion

logger = logging.getLogger(__name__)


def build_class_stats(cfg: Any) -> ClassStats:
    """Return the class statistics of the training set, checked against NUM_CLASSES.

    Reads LT_DET.CLASS_STATS.DATASETS, or DATASETS.TRAIN where that is empty.

    Raises:
        ValueError: if no training set is named, or the number of classes is another one than
            the model's.
    """
    node = cfg.LT_DET.CLASS_STATS
    register_from_config(cfg.LT_DET.DATASETS)
    names = training_sets(cfg)
    if not names:
        raise ValueError(
            "DATASETS.TRAIN is empty: class statistics need the training set. Name it there or "
            "in LT_DET.CLASS_STATS.DATASETS"
        )
    stats = class_stats_of(
        names,
        count_source=node.SOURCE,
        rare_max=node.RARE_MAX,
        common_max=node.COMMON_MAX,
    )
    num_classes = model_num_classes(cfg)
    if stats.num_classes != num_classes:
        raise ValueError(
            f"{_num_classes_key(cfg)} is {num_classes}, but data set {stats.name!r} has "
            f"{stats.num_classes} classes: set {_num_classes_key(cfg)} {stats.num_classes}"
        )
    return stats


def training_sets(cfg: Any) -> tuple[str, ...]:
    """Return the data sets whose classes are counted; empty if none is named."""
    return tuple(cfg.LT_DET.CLASS_STATS.DATASETS) or tuple(cfg.DATASETS.TRAIN)


def model_num_classes(cfg: Any) -> int:
    """Return K, the number of foreground classes of the configured model."""
    node = cfg
    for part in _num_classes_key(cfg).split("."):
        node = getattr(node, part)
    return int(node)


def _num_classes_key(cfg: Any) -> str:
    retinanet = "RetinaNet" in cfg.MODEL.META_ARCHITECTURE
    return "MODEL.RETINANET.NUM_CLASSES" if retinanet else "MODEL.ROI_HEADS.NUM_CLASSES"


def bound_counts(stats: ClassStats, *, kind: str, unit: Unit) -> tuple[Tensor, int]:
    """Return the class counts a loss of ``kind`` wants, float64, and the number of images.

    Args:
        stats: statistics of the training set.
        kind: "softmax" gets K + 1 counts, background last; "sigmoid" K.
        unit: "image" or "instance".
    """
    counts = stats.counts(unit)
    if kind == "softmax":
        counts = counts_with_background(counts)
    return torch.from_numpy(counts), stats.num_images


def build_criterion(cfg: Any) -> Criterion:
    """Return the configured loss; its class counts are read at the first training batch.

    So a model can be built for inference where the training set is not.
    """
    name = cfg.LT_DET.LOSS
    parameters = {
        key.lower(): value for key, value in cfg.LT_DET.LOSS_PARAMS.get(name.upper(), {}).items()
    }
    criterion = Criterion(name, **parameters)
    unit = cfg.LT_DET.CLASS_STATS.UNIT
    cfg = cfg.clone()

    def load_counts() -> tuple[Tensor, int]:
        return bound_counts(build_class_stats(cfg), kind=criterion.kind, unit=unit)

    criterion.load_counts = load_counts
    return criterion


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
