"""Gumbel optimized loss: Gumbel cross-entropy with the weights of DropLoss.

Source: Alexandridis et al., "Long-tailed Instance Segmentation using Gumbel Optimized Loss",
arXiv:2207.10936, and its release.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lt_det.losses.droploss import kept_elements
from lt_det.losses.eql import rare_classes
from lt_det.losses.gumbel import gumbel_loss
from lt_det.losses.reduction import Reduction, reduce_loss


def gol_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    class_counts: Tensor,
    num_images: int,
    threshold: float = 0.0011,
    linear_below: float = -4.0,
    generator: torch.Generator | None = None,
    reduction: Reduction = "none",
) -> Tensor:
    """Return Gumbel cross-entropies, 0 for negatives of rare classes that are dropped, in nats.

    What is dropped see :func:`~lt_det.losses.droploss.drop_loss`, the cross-entropy and where it
    differs from the release :func:`~lt_det.losses.gumbel.gumbel_loss`.

    Args:
        logits: ``(N, K)`` float, foreground classes only.
        targets: ``(N, K)`` float in [0, 1]; all zero for the background.
        class_counts: ``(K,)``, images that contain the class.
        num_images: images with at least one annotation.
        threshold: share of images below which a class is rare, in [0, 1]; 0 drops nothing.
        linear_below: logit, at least -80.
        generator: of the draws; None is torch's own.
        reduction: "none", "mean" or "sum" over all N x K elements.

    Returns:
        ``(N, K)`` for "none", else a scalar.

    Raises:
        ValueError: as these.
    """
    loss = gumbel_loss(logits, targets, linear_below=linear_below)
    rare = rare_classes(class_counts, num_images, threshold=threshold, num_columns=logits.shape[1])
    uniform = torch.rand(loss.shape, generator=generator, device=loss.device)
    return reduce_loss(loss * kept_elements(targets, rare.to(loss.device), uniform), reduction)
