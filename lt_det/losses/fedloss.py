"""Federated loss: binary cross-entropy over the classes of the batch and some drawn ones.

Source: Zhou et al., "Probabilistic two-stage detection", arXiv:2103.07461, and the release in
Detectron2 (``use_fed_loss``) and CenterNet2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lt_det.losses.checks import check_class_counts
from lt_det.losses.cross_entropy import sigmoid_ce_loss
from lt_det.losses.reduction import Reduction, reduce_loss
from lt_det.losses.sampled_classes import sampled_classes


def fed_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    class_counts: Tensor,
    num_sampled: int = 50,
    frequency_power: float = 0.5,
    generator: torch.Generator | None = None,
    reduction: Reduction = "none",
) -> Tensor:
    """Return ``-log p_t`` of the classes in a set S of the batch, 0 of the others, in nats.

    S holds the classes that are labels in the batch; the background is one of them where it
    occurs, without a column. Others are drawn without replacement, with probabilities in
    proportion to ``class_counts^frequency_power``, until S has ``num_sampled``. If the labels are
    as many, nothing is drawn.

    As the release, on each rank by itself. Unlike there, the classifier has no column that is
    never trained, fewer classes than ``num_sampled`` are no error, and the draws can be repeated.

    Args:
        logits: ``(N, K)`` float, foreground classes only.
        targets: ``(N, K)`` float in [0, 1]; all zero for the background.
        class_counts: ``(K,)``; the release counts images.
        num_sampled: m, size of S, at least 1; K or more is binary cross-entropy.
        frequency_power: 0.5 in the release; 0 draws all classes alike.
        generator: of the draws; None is torch's own.
        reduction: "none", "mean" or "sum" over all N x K elements.

    Returns:
        ``(N, K)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, a count is not positive, or ``num_sampled`` is
            below 1.
    """
    loss = sigmoid_ce_loss(logits, targets)
    check_class_counts(class_counts, num_columns=logits.shape[1])
    if num_sampled < 1:
        raise ValueError(f"num_sampled must be at least 1, got {num_sampled}")
    positive = targets != 0
    sampled = sampled_classes(
        positive.any(dim=0),
        has_background=~positive.any(dim=1).all(),
        class_counts=class_counts,
        num_sampled=num_sampled,
        frequency_power=frequency_power,
        generator=generator,
    )
    return reduce_loss(loss * sampled, reduction)
