"""What a config must not say, found before anything is built."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.utils import comm


def check_config(cfg: Any) -> None:
    """Raise for configs that contradict themselves or the machine.

    Raises:
        ValueError: names the keys and what to set.
    """
    node = cfg.LT_DET
    if node.META.ENABLED and not node.DECOUPLED:
        raise ValueError(
            "LT_DET.META.ENABLED learns class weights of the second stage: set LT_DET.DECOUPLED "
            "True and MODEL.WEIGHTS to a stage-1 checkpoint"
        )
    if node.REGION_CACHE.ENABLED and not node.DECOUPLED:
        raise ValueError(
            "LT_DET.REGION_CACHE.ENABLED needs all below the classifier frozen: set "
            "LT_DET.DECOUPLED True"
        )
    if node.META.REGIONS not in ("forward", "bank"):
        raise ValueError(
            f"LT_DET.META.REGIONS must be 'forward' or 'bank', got {node.META.REGIONS!r}"
        )
    ranks = comm.get_world_size()
    for key, value in (
        ("SOLVER.IMS_PER_BATCH", cfg.SOLVER.IMS_PER_BATCH),
        ("LT_DET.META.IMS_PER_BATCH", node.META.IMS_PER_BATCH),
    ):
        if value % ranks:
            raise ValueError(f"{key} {value} must be a multiple of the {ranks} processes")
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty")
    if cfg.SOLVER.AMP.ENABLED and not torch.cuda.is_available():
        raise ValueError("SOLVER.AMP.ENABLED needs CUDA, and there is none")
