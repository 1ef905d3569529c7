"""Reduction of element-wise losses: "none", "mean" or "sum"."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Reduction = Literal["none", "mean", "sum"]


def reduce_loss(loss: Tensor, reduction: Reduction) -> Tensor:
    """Return ``loss`` unchanged, its mean or its sum.

    The mean of an empty tensor is 0 and keeps its graph, so that an empty batch gives a zero
    gradient instead of NaN.

    Raises:
        ValueError: if ``reduction`` is none of "none", "mean", "sum".
    """
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.sum() / max(loss.numel(), 1)
    raise ValueError(f"reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
