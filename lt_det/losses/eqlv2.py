"""Equalization loss v2: weighs each class by the gradients that it has got so far.

Source: Tan et al., "Equalization Loss v2", arXiv:2012.08548, Eq. 5-7, and its release.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_det.losses.checks import at_least_float32, check_targets
from lt_det.losses.gradient_sums import GradientSums
from lt_det.losses.reduction import Reduction, reduce_loss


class WeightedGradientSums(GradientSums):
    """Sums of the gradients that EQLv2 has weighted; the background's column has none."""

    provides = ("gradient_ratio",)
    nothing_yet = 100.0  # so large that the weights are 1

    def arguments(self) -> dict[str, Tensor]:
        """Return the ratio of both sums, ``(K,)`` float64."""
        return {"gradient_ratio": self.ratio()}

    def gradients(self, logits: Tensor, targets: Tensor, **parameters: Any) -> Tensor:
        """Return the size of each gradient, weighted."""
        weights = _weights(targets, self.ratio(), **parameters)
        return (torch.sigmoid(logits) - targets).abs() * weights


def eqlv2_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    gradient_ratio: Tensor | None = None,
    gamma: float = 12.0,
    mu: float = 0.8,
    alpha: float = 4.0,
    background: bool = False,
    reduction: Reduction = "none",
) -> Tensor:
    """Return ``-w log p_t`` of each column by itself, in nats; w grows with balance.

    With g the ratio of a class's positive to its negative gradients so far, negatives weigh ``v =
    sigmoid(gamma (g - mu))`` and positives ``1 + alpha (1 - v)``. The background's column weighs
    1; its target is 1 on background rows.

    The release's order: weights from the steps before, then the loss, then its gradients are
    added. Unlike there, the sums are float64 (in float32 they stop growing in a long training),
    collected in float32 under autocast, and always reduced over ranks.

    Args:
        logits: ``(N, K)`` float, or ``(N, K + 1)`` with the background last.
        targets: float in [0, 1] of the same shape.
        gradient_ratio: g, ``(K,)``, see :class:`WeightedGradientSums`; None is the start: all
            weights 1.
        gamma: slope.
        mu: ratio at which negatives weigh 1/2.
        alpha: positives weigh up to ``1 + alpha``.
        background: whether the last column is the background.
        reduction: "none", "mean" or "sum" over all elements.

    Returns:
        the shape of ``logits`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree.
    """
    check_targets(logits, targets)
    logits, targets = at_least_float32(logits), at_least_float32(targets)
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if gradient_ratio is not None:
        weights = _weights(
            targets, gradient_ratio, gamma=gamma, mu=mu, alpha=alpha, background=background
        )
        loss = loss * weights
    return reduce_loss(loss, reduction)


def _weights(
    targets: Tensor,
    gradient_ratio: Tensor,
    *,
    gamma: float,
    mu: float,
    alpha: float,
    background: bool,
) -> Tensor:
    """Return the weight of each element, ``(N, C)``, in the dtype of ``targets``."""
    negative = torch.sigmoid(gamma * (gradient_ratio - mu))
    positive = 1 + alpha * (1 - negative)
    if background:
        negative, positive = (F.pad(w, (0, 1), value=1.0) for w in (negative, positive))
    return positive.to(targets) * targets + negative.to(targets) * (1 - targets)
