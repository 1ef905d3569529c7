"""DropLoss: equalization loss that also drops background rows of rare classes, at random.

Source: Hsieh et al., "DropLoss for Long-Tail Instance Segmentation", arXiv:2104.06402, and its
release.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lt_det.losses.cross_entropy import sigmoid_ce_loss
from lt_det.losses.eql import rare_classes
from lt_det.losses.reduction import Reduction, reduce_loss


def drop_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    class_counts: Tensor,
    num_images: int,
    threshold: float = 0.0011,
    generator: torch.Generator | None = None,
    reduction: Reduction = "none",
) -> Tensor:
    """Return ``-log p_t``, 0 for negatives of rare classes that are dropped, in nats.

    On foreground rows all of them are, as :func:`~lt_det.losses.eql.eql_loss`; on background rows
    each element by itself is kept with probability rho, the part of the batch's foreground rows
    whose label is rare. Without foreground nothing is dropped.

    As the release, rho is each rank's own. Unlike there, the draws can be repeated.

    Args:
        logits: ``(N, K)`` float, foreground classes only.
        targets: ``(N, K)`` float in [0, 1]; all zero for the background.
        class_counts: ``(K,)``, images that contain the class.
        num_images: images with at least one annotation.
        threshold: see :func:`~lt_det.losses.eql.eql_loss`. 0 is binary cross-entropy.
        generator: of the draws; None is torch's own.
        reduction: "none", "mean" or "sum" over all N x K elements.

    Returns:
        ``(N, K)`` for "none", else a scalar.

    Raises:
        ValueError: as :func:`~lt_det.losses.eql.eql_loss`.
    """
    loss = sigmoid_ce_loss(logits, targets)
    rare = rare_classes(class_counts, num_images, threshold=threshold, num_columns=logits.shape[1])
    uniform = torch.rand(loss.shape, generator=generator, device=loss.device)
    return reduce_loss(loss * kept_elements(targets, rare.to(loss.device), uniform), reduction)


def kept_elements(targets: Tensor, rare: Tensor, uniform: Tensor) -> Tensor:
    """Return ``(N, K)`` bool: the elements that DropLoss keeps.

    Args:
        targets: ``(N, K)`` float in [0, 1].
        rare: ``(K,)`` bool.
        uniform: ``(N, K)`` draws from [0, 1).
    """
    positive = targets != 0
    foreground = positive.any(dim=1)
    of_rare = (positive & rare).any(dim=1)
    # 0 / 0 without foreground: the comparison is false, and nothing is dropped.
    rho = of_rare.sum().double() / foreground.sum().double()
    dropped = foreground[:, None] | (uniform > rho)
    return positive | ~(dropped & rare)
