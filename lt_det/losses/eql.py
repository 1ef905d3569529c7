"""Equalization loss: foreground rows of other classes do not push rare ones down.

Source: Tan et al., "Equalization Loss for Long-Tailed Object Recognition", CVPR 2020,
arXiv:2003.05176, Eq. 2-4, and its release for Detectron2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lt_det.losses.checks import check_class_counts
from lt_det.losses.cross_entropy import sigmoid_ce_loss
from lt_det.losses.reduction import Reduction, reduce_loss


def eql_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    class_counts: Tensor,
    num_images: int,
    threshold: float = 0.0011,
    reduction: Reduction = "none",
) -> Tensor:
    """Return ``-log p_t``, 0 for negatives of rare classes on foreground rows, in nats.

    A class is rare if it is in less than ``threshold`` of the images. Background rows keep all
    elements, and positives always count.

    Args:
        logits: ``(N, K)`` float, foreground classes only.
        targets: ``(N, K)`` float in [0, 1]; all zero for the background.
        class_counts: ``(K,)``, images that contain the class.
        num_images: images with at least one annotation.
        threshold: lambda, in [0, 1]. 0.0011 is usual for LVIS v1, 0.00177 the release's for v0.5:
            rare and common classes alike lie below. 0 is binary cross-entropy.
        reduction: "none", "mean" or "sum" over all N x K elements.

    Returns:
        ``(N, K)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, a count is not positive or above ``num_images``,
            or ``threshold`` is not in [0, 1].
    """
    loss = sigmoid_ce_loss(logits, targets)
    rare = rare_classes(class_counts, num_images, threshold=threshold, num_columns=logits.shape[1])
    positive = targets != 0
    spared = positive.any(dim=1, keepdim=True) & rare.to(logits.device) & ~positive
    return reduce_loss(loss * ~spared, reduction)


def rare_classes(
    class_counts: Tensor, num_images: int, *, threshold: float, num_columns: int
) -> Tensor:
    """Return ``(K,)`` bool: whether a class is in less than ``threshold`` of the images.

    Raises:
        ValueError: as :func:`eql_loss`.
    """
    check_class_counts(class_counts, num_columns=num_columns, num_images=num_images)
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold must be in [0, 1], got {threshold}")
    return class_counts.double() / num_images < threshold


def without_effect(
    class_counts: Tensor, *, num_images: int | None = None, threshold: float, **_: Any
) -> str:
    """Return why no class is rare, or "" if one is, or if the number of images is not known."""
    if num_images is None:
        return ""
    rarest = float(torch.as_tensor(class_counts).min()) / num_images
    if rarest < threshold:
        return ""
    return (
        f"no class is below the threshold {threshold:g}, the rarest is in {rarest:.2g} of the "
        "images: set a larger threshold"
    )
