"""Softmax equalization loss: spares rare classes the push of other classes' samples.

Source: Tan et al., "Equalization Loss for Long-Tailed Object Recognition", CVPR 2020,
arXiv:2003.05176, the variant for image classification.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_det.losses.checks import at_least_float32, check_class_counts, check_labels
from lt_det.losses.cross_entropy import softmax_ce_loss
from lt_det.losses.reduction import Reduction


def softmax_equalization_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    class_counts: Tensor,
    threshold: float = 0.003,
    probability: float = 0.9,
    background: bool = False,
    generator: torch.Generator | None = None,
    reduction: Reduction = "none",
) -> Tensor:
    """Return the cross-entropy over the label and the classes that are not spared, in nats.

    A class below ``threshold`` is spared by a sample of another class with the given probability,
    drawn for each sample and class by itself: then it is left out of the sample's denominator.

    As the release of BagofTricks-LT. Unlike there, the draws can be repeated.

    Args:
        logits: ``(N, C)`` float.
        labels: ``(N,)`` int64 in ``[0, C)``.
        class_counts: ``(C,)``, training frequency of each column, in any unit.
        threshold: lambda, share of the training set below which a class is rare, in [0, 1]; it
            has to go with the number of classes (default chosen here for about 100). 0 is
            cross-entropy.
        probability: gamma, in [0, 1]. 0 is cross-entropy.
        background: whether the last column is the background of a detector, the most frequent
            class: it is never spared, and has no part in the shares.
        generator: of the draws; None is torch's own.
        reduction: "none", "mean" or "sum".

    Returns:
        ``(N,)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, or a parameter is not in [0, 1].
    """
    check_labels(logits, labels)
    check_class_counts(class_counts, num_columns=logits.shape[1])
    for name, value in (("threshold", threshold), ("probability", probability)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must be in [0, 1], got {value}")
    rare = _shares(class_counts, background=background) < threshold
    rare = F.pad(rare, (0, int(background))).to(logits.device)
    uniform = torch.rand(logits.shape, generator=generator, device=logits.device)
    spared = (rare & (uniform < probability)).scatter(1, labels[:, None], False)
    logits = at_least_float32(logits).masked_fill(spared, -math.inf)
    return softmax_ce_loss(logits, labels, reduction=reduction)


def without_effect(
    class_counts: Tensor, *, threshold: float, background: bool = False, **_: Any
) -> str:
    """Return why no class is rare, or "" if one is."""
    rarest = float(_shares(class_counts, background=background).min())
    if rarest < threshold:
        return ""
    return (
        f"no class is below the threshold {threshold:g}, the share of the rarest in the "
        f"sum of all class counts is {rarest:.2g}: set a larger threshold"
    )


def _shares(class_counts: Tensor, *, background: bool) -> Tensor:
    """Return the share of each class of the data set, float64: ``(C,)``, or without the last."""
    counts = (class_counts[:-1] if background else class_counts).double()
    return counts / counts.sum()
