"""Gumbel activation: binary cross-entropy of ``exp(-e^{-z})`` in closed form.

Source: Alexandridis et al., "Long-tailed Instance Segmentation using Gumbel Optimized Loss",
arXiv:2207.10936, Eq. 5-8.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lt_det.losses.checks import at_least_float32, check_targets
from lt_det.losses.reduction import Reduction, reduce_loss

#: From here on a series in e^{-z} is exact to 1e-11.
_SERIES_FROM = 4.0
#: Below, a negative's loss is 0 in float64.
_ZERO_BELOW = -20.0


def gumbel_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    linear_below: float = -4.0,
    reduction: Reduction = "none",
) -> Tensor:
    """Return ``-log p_t`` with ``p = exp(-e^{-z})`` of each class by itself, in nats.

    That is ``e^{-z}`` for positives and ``-log(1 - exp(-e^{-z}))`` for negatives. A positive's
    loss grows along its tangent below ``linear_below``, where the exponential would explode.

    The release clamps logits to [-4, 10] and takes logarithms of probabilities: a positive below
    -4 has no gradient there, and hardly any from -3.3 on.

    Args:
        logits: ``(N, K)`` float, foreground classes only.
        targets: ``(N, K)`` float in [0, 1]; all zero for the background.
        linear_below: logit, at least -80.
        reduction: "none", "mean" or "sum" over all N x K elements.

    Returns:
        ``(N, K)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, or ``linear_below`` is below -80.
    """
    check_targets(logits, targets)
    if linear_below < -80:
        raise ValueError(f"linear_below must be at least -80, got {linear_below}")
    logits, targets = at_least_float32(logits), at_least_float32(targets)
    positive = torch.exp(-logits.clamp(min=linear_below))
    positive = positive + math.exp(-linear_below) * (linear_below - logits).clamp(min=0)
    low = logits.clamp(_ZERO_BELOW, _SERIES_FROM)
    small = torch.exp(-logits.clamp(min=_SERIES_FROM))
    negative = torch.where(
        logits < _SERIES_FROM,
        -torch.log(-torch.expm1(-torch.exp(-low))),
        logits + small / 2 - small**2 / 24,
    )
    return reduce_loss(targets * positive + (1 - targets) * negative, reduction)


def gumbel_scores(logits: Tensor, *, background: bool) -> Tensor:
    """Return ``exp(-e^{-z})``, ``(N, K)``."""
    del background
    return torch.exp(-torch.exp(-logits))


def gumbel_logit(probability: Tensor) -> Tensor:
    """Return the logit whose score is ``probability``, in (0, 1)."""
    return -torch.log(-torch.log(probability))
