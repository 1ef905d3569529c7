"""Scale batch sizes and iterations to another number of processes."""

from __future__ import annotations

from typing import Any

from detectron2.engine import DefaultTrainer


def scale_to_world_size(cfg: Any, world_size: int) -> Any:
    """Return the config with SOLVER.REFERENCE_WORLD_SIZE applied, to our keys as well.

    Args:
        cfg: config; returned as it is where the key is 0 or the number of processes.
        world_size: number of processes.
    """
    scaled = DefaultTrainer.auto_scale_workers(cfg, world_size)
    if scaled is cfg:
        return cfg
    scale = world_size / cfg.SOLVER.REFERENCE_WORLD_SIZE
    frozen = scaled.is_frozen()
    scaled.defrost()
    meta, defer = scaled.LT_DET.META, scaled.LT_DET.DEFER
    meta.IMS_PER_BATCH = round(meta.IMS_PER_BATCH * scale)
    defer.START_ITER = round(defer.START_ITER / scale)
    if frozen:
        scaled.freeze()
    return scaled
