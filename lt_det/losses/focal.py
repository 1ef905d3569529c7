"""Focal loss.

Source: Lin et al., arXiv:1708.02002; Eq. 5 of the Eureka paper (OpenReview 7Yhok3vJpU).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_det.losses.checks import at_least_float32, check_targets
from lt_det.losses.margin import check_gamma, focal_of_margin, sigmoid_margin, softmax_margin
from lt_det.losses.reduction import Reduction, reduce_loss


def sigmoid_focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: Reduction = "none",
) -> Tensor:
    """Return ``-alpha_t (1 - p_t)^gamma log p_t`` of each class by itself, in nats.

    Args:
        logits: ``(N, K)`` float, foreground classes only.
        targets: ``(N, K)`` float, 0 or 1; all zero for the background.
        alpha: weight of positives, negatives get ``1 - alpha``; None is no weight. 0.25 is
            Detectron2's RetinaNet and the paper's text; the Eureka release runs 0.5.
        gamma: at least 0; 2 is the paper's text, the release runs 1. 0 is cross-entropy.
        reduction: "none", "mean" or "sum" over all N x K elements.

    Returns:
        ``(N, K)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, or ``gamma`` is negative.
    """
    check_gamma(gamma)
    if gamma < 1:
        loss = focal_of_margin(sigmoid_margin(logits, targets), gamma=gamma)
    else:
        # The order of fvcore's operations, so that RetinaNet equals Detectron2's to the last bit.
        check_targets(logits, targets)
        logits, targets = at_least_float32(logits), at_least_float32(targets)
        p = torch.sigmoid(logits)
        ce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        p_t = p * targets + (1 - p) * (1 - targets)
        loss = ce * ((1 - p_t) ** gamma)
    return reduce_loss(weigh_by_alpha(loss, targets, alpha=alpha), reduction)


def softmax_focal_loss(
    logits: Tensor, labels: Tensor, *, gamma: float = 1.0, reduction: Reduction = "none"
) -> Tensor:
    """Return ``-(1 - p_y)^gamma log p_y``, in nats.

    Args:
        logits: ``(N, C)`` float, C >= 2.
        labels: ``(N,)`` int64 in ``[0, C)``.
        gamma: at least 0; 1 is best in the Eureka paper's image classification, 0 is
            cross-entropy.
        reduction: "none", "mean" or "sum".

    Returns:
        ``(N,)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, or ``gamma`` is negative.
    """
    check_gamma(gamma)
    return reduce_loss(focal_of_margin(softmax_margin(logits, labels), gamma=gamma), reduction)


def weigh_by_alpha(loss: Tensor, targets: Tensor, *, alpha: float | None) -> Tensor:
    """Return ``loss`` times alpha on positives and ``1 - alpha`` on negatives; None: as it is.

    Raises:
        ValueError: if ``alpha`` is not in [0, 1].
    """
    if alpha is None:
        return loss
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must be in [0, 1] or None, got {alpha}")
    targets = targets.to(loss.dtype)
    return (alpha * targets + (1 - alpha) * (1 - targets)) * loss
