"""Start iteration of deferred losses and samplers."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deferral:
    """Deferred loss and sampler with their start; the values of LT_DET.DEFER.

    Attributes:
        start_iter: first deferred iteration, from 0; 0 if ``start_epoch`` says it or nothing is
            deferred.
        start_epoch: the same in epochs.
        loss_before: row of the loss table before; "" is the loss after.
        sampler: of the deferred iterations; "" is the same throughout.
        defers_loss: whether the loss before is another one than the loss after.
        ims_per_batch: images of a training batch, all ranks together.
        max_iter: last iteration of the training.
    """

    start_iter: int
    start_epoch: float
    loss_before: str
    sampler: str
    defers_loss: bool
    ims_per_batch: int
    max_iter: int

    @classmethod
    def from_config(cls, cfg: Any) -> Deferral:
        """Read LT_DET.DEFER, LT_DET.LOSS, LT_DET.CLASS_WEIGHTS and SOLVER.

        Raises:
            ValueError: if LT_DET.DEFER contradicts itself or changes nothing.
        """
        node, defer = cfg.LT_DET, cfg.LT_DET.DEFER
        if defer.START_ITER < 0 or defer.START_EPOCH < 0:
            raise ValueError(
                "LT_DET.DEFER.START_ITER and START_EPOCH must be at least 0, got "
                f"{defer.START_ITER} and {defer.START_EPOCH}"
            )
        if defer.START_ITER and defer.START_EPOCH:
            raise ValueError(
                "LT_DET.DEFER.START_ITER and LT_DET.DEFER.START_EPOCH say the same: set one of "
                f"them to 0, got {defer.START_ITER} and {defer.START_EPOCH}"
            )
        is_deferred = bool(defer.START_ITER or defer.START_EPOCH)
        other_loss = defer.LOSS not in ("", node.LOSS)
        defers_loss = is_deferred and (other_loss or bool(node.CLASS_WEIGHTS.NAME))
        if not is_deferred:
            for key in ("LOSS", "SAMPLER"):
                if defer[key]:
                    raise ValueError(
                        f"LT_DET.DEFER.{key} is {defer[key]!r}, but nothing is deferred: set "
                        "LT_DET.DEFER.START_ITER or START_EPOCH"
                    )
        elif not defers_loss and not defer.SAMPLER:
            raise ValueError(
                "LT_DET.DEFER defers nothing: set LT_DET.CLASS_WEIGHTS.NAME, LT_DET.DEFER.SAMPLER, "
                f"or LT_DET.DEFER.LOSS to another loss than LT_DET.LOSS {node.LOSS!r}"
            )
        return cls(
            start_iter=defer.START_ITER,
            start_epoch=defer.START_EPOCH,
            loss_before=defer.LOSS,
            sampler=defer.SAMPLER,
            defers_loss=defers_loss,
            ims_per_batch=cfg.SOLVER.IMS_PER_BATCH,
            max_iter=cfg.SOLVER.MAX_ITER,
        )

    def start(self, num_images: Callable[[], int]) -> int:
        """Return the first deferred iteration, from 0, and warn if training ends before.

        Args:
            num_images: gives the images of an epoch; called for ``start_epoch`` only.
        """
        start = self.start_iter
        if not start:
            start = math.ceil(self.start_epoch * num_images() / self.ims_per_batch)
        if start >= self.max_iter:
            logger.warning(
                "LT_DET.DEFER begins in iteration %d, that is never: SOLVER.MAX_ITER is %d",
                start,
                self.max_iter,
            )
        return start
