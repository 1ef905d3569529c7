"""Training loops in full and half precision, on GPUs and CPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import nn


class AutocastModel(nn.Module):
    """``model`` under autocast to bfloat16 in training; in evaluation as it is.

    What SOLVER.AMP means on a CPU. bfloat16 has the exponents of float32: no loss is scaled.
    """

    def __init__(self, model: nn.Module) -> None:
        """Wrap a model on the CPU."""
        super().__init__()
        self.model = model

    def forward(self, data: Any) -> Any:
        """Return what ``model`` returns; only the forward is under autocast."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.training):
            return self.model(data)


def build_loop(cfg: Any, model: nn.Module, optimizer: torch.optim.Optimizer) -> SimpleTrainer:
    """Return the loop of SOLVER.AMP and MODEL.DEVICE, without a loader yet."""
    if not cfg.SOLVER.AMP.ENABLED:
        return SimpleTrainer(model, (), optimizer)
    if str(cfg.MODEL.DEVICE) == "cpu":
        return SimpleTrainer(AutocastModel(model), (), optimizer)
    return AMPTrainer(model, (), optimizer)


def not_finite(
    error: FloatingPointError, iteration: int, latest: Mapping[str, tuple[float, int]], last: str
) -> FloatingPointError:
    """Return an error that says where a loss was not finite, and what to do.

    Args:
        error: of Detectron2's loop.
        iteration: from 0.
        latest: scalars of the event storage with their iterations.
        last: file of the last checkpoint; "" if there is none.
    """
    losses = {key: value for key, (value, _) in latest.items() if "loss" in key}
    return FloatingPointError(
        f"{error}\niteration={iteration}, losses logged last: {losses}\n"
        f"The weights were not updated; the last checkpoint is {last or 'none yet'}. Try a smaller "
        "SOLVER.BASE_LR, a longer SOLVER.WARMUP_ITERS, or SOLVER.CLIP_GRADIENTS.ENABLED"
    )
