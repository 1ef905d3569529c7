"""From LT_DET.META to a meta learner."""

from __future__ import annotations

from typing import Any

import torch

from lt_det.data.class_stats import ClassStats
from lt_det.meta.meta_learner import MetaLearner
from lt_det.meta.meta_reweighter import MetaReweighter
from lt_det.meta.meta_sampler import MetaSampler

METHODS = ("reweighter", "sampler")


def build_meta_learner(cfg: Any, stats: ClassStats) -> MetaLearner:
    """Return the learner of LT_DET.META.METHOD.

    Args:
        cfg: config.
        stats: of the training set.
    """
    node = cfg.LT_DET.META
    options = {
        "lr": node.LR,
        "betas": node.BETAS,
        "inner_step": node.INNER_STEP,
        "device": cfg.MODEL.DEVICE,
    }
    if node.METHOD == "reweighter":
        return MetaReweighter(stats.num_classes, **options)
    return MetaSampler(
        torch.from_numpy(stats.counts("image")),
        estimator=node.ESTIMATOR,
        temperature=node.TEMPERATURE,
        init_power=node.INIT_POWER,
        **options,
    )
