"""Softmax and sigmoid cross-entropy: the baselines."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from lt_det.losses.checks import at_least_float32, check_labels, check_targets
from lt_det.losses.reduction import Reduction, reduce_loss


def softmax_ce_loss(logits: Tensor, labels: Tensor, *, reduction: Reduction = "none") -> Tensor:
    """Return ``-log p_y``, the softmax cross-entropy, in nats.

    Args:
        logits: ``(N, C)`` float. In an R-CNN, C = K + 1 and the background is the last column.
        labels: ``(N,)`` int64 in ``[0, C)``.
        reduction: "none", "mean" or "sum".

    Returns:
        ``(N,)`` for "none", else a scalar.
    """
    check_labels(logits, labels)
    # As autocast does: in half precision a sum over 1,000 classes has 2-3 digits.
    logits = at_least_float32(logits)
    if reduction == "mean" and labels.numel():
        # In one kernel, as Detectron2 has it: a mean of single losses differs in the last bit.
        return F.cross_entropy(logits, labels, reduction="mean")
    return reduce_loss(F.cross_entropy(logits, labels, reduction="none"), reduction)


def sigmoid_ce_loss(logits: Tensor, targets: Tensor, *, reduction: Reduction = "none") -> Tensor:
    """Return ``-log p_t`` of each class by itself, the binary cross-entropy, in nats.

    Args:
        logits: ``(N, K)`` float, foreground classes only.
        targets: ``(N, K)`` float in [0, 1]; all zero for the background.
        reduction: "none", "mean" or "sum" over all N x K elements.

    Returns:
        ``(N, K)`` for "none", else a scalar.
    """
    check_targets(logits, targets)
    logits, targets = at_least_float32(logits), at_least_float32(targets)
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return reduce_loss(loss, reduction)
