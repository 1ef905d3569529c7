"""Build a meta learner from LT_DET.META."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.data import MetadataCatalog

from lt_det.config_errors import naming_keys
from lt_det.data.annotations.checks import NUM_NAMED
from lt_det.data.annotations.datasets import check_registered, class_names_of
from lt_det.data.images.datasets import share_images, take_classes
from lt_det.data.stats.class_stats import ClassStats
from lt_det.meta.meta_learner import MetaLearner
from lt_det.meta.meta_reweighter import MetaReweighter
from lt_det.meta.meta_sampler import MetaSampler

METHODS = ("reweighter", "sampler")


def build_meta_learner(cfg: Any, stats: ClassStats) -> MetaLearner:
    """Return the learner of LT_DET.META.METHOD.

    Args:
        cfg: config.
        stats: of the training set.

    Raises:
        ValueError: as :func:`check_meta_sets`.
        KeyError: see there.
    """
    check_meta_sets(cfg, stats)
    node = cfg.LT_DET.META
    options = {
        "lr": node.LR,
        "betas": node.BETAS,
        "inner_step": node.INNER_STEP,
        "device": cfg.MODEL.DEVICE,
    }
    arguments = ("lr", "betas", "inner_step", "estimator", "temperature", "init_power")
    with naming_keys(**{name: f"LT_DET.META.{name.upper()}" for name in arguments}):
        if node.METHOD == "reweighter":
            return MetaReweighter(stats.num_classes, **options)
        return MetaSampler(
            torch.from_numpy(stats.counts("image")),
            estimator=node.ESTIMATOR,
            temperature=node.TEMPERATURE,
            init_power=node.INIT_POWER,
            **options,
        )


def check_meta_sets(cfg: Any, stats: ClassStats) -> None:
    """Raise for data sets that LT_DET.META must not learn from; give the rest the classes' ids.

    Args:
        cfg: config.
        stats: of the training set.

    Raises:
        KeyError: if a data set of LT_DET.META.DATASETS is not registered.
        ValueError: if it is a test set, has other classes than the training set, or all images of
            what the training set is a part of.
    """
    for name in cfg.LT_DET.META.DATASETS:
        key = f"LT_DET.META.DATASETS {name!r}"
        try:
            check_registered(name)
            take_classes(name, stats.class_names)
        except (KeyError, ValueError) as error:
            raise type(error)(f"LT_DET.META.DATASETS: {error.args[0]}") from error
        found = class_names_of(name)
        if found != list(stats.class_names):
            raise ValueError(
                f"{key} must have the classes of the training set in their order, "
                f"{stats.num_classes} with first {list(stats.class_names[:NUM_NAMED])}; it has "
                f"{len(found)} with first {found[:NUM_NAMED]}"
            )
        for test in cfg.DATASETS.TEST:
            if share_images(name, test):
                raise ValueError(
                    f"{key} has the images of DATASETS.TEST {test!r}: what is learned from test "
                    "images cannot be tested on them. Leave it empty, which is the training set, "
                    "or name a validation split"
                )
        for trained in cfg.DATASETS.TRAIN:
            sources = [MetadataCatalog.get(n).get("image_source") for n in (name, trained)]
            if sources[0] != sources[1] and share_images(name, trained):
                raise ValueError(
                    f"{key} has all images of which DATASETS.TRAIN {trained!r} is a part: "
                    "LT_DET.CLASSIFICATION.IMBALANCE_FACTOR and HELD_OUT are for DATASETS.TRAIN "
                    f"only, and the meta set would hold what they leave out. Name {trained!r}, or "
                    "leave it empty, which is the same"
                )
