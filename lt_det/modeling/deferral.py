"""When that begins what LT_DET.DEFER defers, loss and sampler alike."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


def check_deferral(cfg: Any) -> None:
    """Raise if LT_DET.DEFER contradicts itself or changes nothing.

    Raises:
        ValueError: names the keys.
    """
    node, defer = cfg.LT_DET, cfg.LT_DET.DEFER
    if defer.START_ITER < 0 or defer.START_EPOCH < 0:
        raise ValueError(
            "LT_DET.DEFER.START_ITER and START_EPOCH must be at least 0, got "
            f"{defer.START_ITER} and {defer.START_EPOCH}"
        )
    if defer.START_ITER and defer.START_EPOCH:
        raise ValueError(
            "LT_DET.DEFER.START_ITER and LT_DET.DEFER.START_EPOCH say the same: set one of them "
            f"to 0, got {defer.START_ITER} and {defer.START_EPOCH}"
        )
    if not is_deferred(cfg):
        for key in ("LOSS", "SAMPLER"):
            if defer[key]:
                raise ValueError(
                    f"LT_DET.DEFER.{key} is {defer[key]!r}, but nothing is deferred: set "
                    "LT_DET.DEFER.START_ITER or START_EPOCH"
                )
    elif not defers_loss(cfg) and not defer.SAMPLER:
        raise ValueError(
            "LT_DET.DEFER defers nothing: set LT_DET.CLASS_WEIGHTS.NAME, LT_DET.DEFER.SAMPLER, or "
            f"LT_DET.DEFER.LOSS to another loss than LT_DET.LOSS {node.LOSS!r}"
        )


def is_deferred(cfg: Any) -> bool:
    """Return whether anything is deferred."""
    return bool(cfg.LT_DET.DEFER.START_ITER or cfg.LT_DET.DEFER.START_EPOCH)


def defers_loss(cfg: Any) -> bool:
    """Return whether the loss before is another one than the loss after."""
    node = cfg.LT_DET
    other_loss = node.DEFER.LOSS not in ("", node.LOSS)
    return is_deferred(cfg) and (other_loss or bool(node.CLASS_WEIGHTS.NAME))


def deferral_start(cfg: Any, num_images: Callable[[], int]) -> int:
    """Return the first deferred iteration, counted from 0, and warn if training ends before.

    Args:
        cfg: config.
        num_images: gives the images of an epoch; called for LT_DET.DEFER.START_EPOCH only.
    """
    defer, solver = cfg.LT_DET.DEFER, cfg.SOLVER
    start = defer.START_ITER
    if not start:
        start = math.ceil(defer.START_EPOCH * num_images() / solver.IMS_PER_BATCH)
    if start >= solver.MAX_ITER:
        logger.warning(
            "LT_DET.DEFER begins in iteration %d, that is never: SOLVER.MAX_ITER is %d",
            start,
            solver.MAX_ITER,
        )
    return start
