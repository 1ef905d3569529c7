"""Inverse image frequency: logits times a factor that grows as the class gets rarer.

Source: Alexandridis et al., "Inverse Image Frequency for Long-tailed Image Recognition",
arXiv:2209.04861, and its release.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_det.losses.checks import at_least_float32, check_class_counts, check_labels
from lt_det.losses.cross_entropy import softmax_ce_loss
from lt_det.losses.reduction import Reduction

Variant = Literal["raw", "smooth", "rel", "normit", "gombit", "base2", "base10"]


def iif_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    class_counts: Tensor,
    num_images: int,
    variant: Variant = "raw",
    background: bool = False,
    reduction: Reduction = "none",
) -> Tensor:
    """Return the softmax cross-entropy of ``w z``, w the inverse image frequency, in nats.

    See :func:`inverse_image_frequency`; the background's factor is 1. The scores of a prediction
    are the softmax of the same product (:func:`iif_scores`).

    As the release, down to its oddity that a negative logit of a rare class gets more negative.
    Unlike there, a class that is in every image has a finite factor in all variants, and the
    factors come from the training set at hand and not from a table of LVIS.

    Args:
        logits: ``(N, K)`` float, or ``(N, K + 1)`` with the background last. A class at minus
            infinity is absent from its row, whatever its factor.
        labels: ``(N,)`` int64 in ``[0, C)``.
        class_counts: ``(K,)``, images that contain the class.
        num_images: images with at least one annotation.
        variant: of the factor.
        background: whether the last column is the background.
        reduction: "none", "mean" or "sum".

    Returns:
        ``(N,)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, or there is no such variant.
    """
    check_labels(logits, labels)
    product = _product(
        logits, class_counts, num_images=num_images, variant=variant, background=background
    )
    return softmax_ce_loss(product, labels, reduction=reduction)


def iif_scores(
    logits: Tensor,
    *,
    background: bool,
    class_counts: Tensor,
    num_images: int,
    variant: Variant,
) -> Tensor:
    """Return the softmax of the logits times the factors of their classes, ``(N, C)``."""
    product = _product(
        logits, class_counts, num_images=num_images, variant=variant, background=background
    )
    return product.softmax(dim=1).to(logits.dtype)


def inverse_image_frequency(
    class_counts: Tensor, *, num_images: int, variant: Variant = "raw"
) -> Tensor:
    """Return the factors ``(K,)`` float64; f is the share of images that contain the class.

    "raw": ``-log f``; "smooth": ``1 + log((N + 1) / (n + 1))``; "rel": ``log((1 - f) / f)``;
    "normit": minus the normal quantile of f; "gombit": ``-log(-log(1 - f))``; "base2" and
    "base10": "raw" in other units. "rel", "normit" and "gombit" are negative for classes in more
    than half of the images (gombit: in 63 %).

    Args:
        class_counts: ``(K,)``, images that contain the class.
        num_images: N, at least the largest of them.
        variant: see above.

    Raises:
        ValueError: if a count is not positive or above ``num_images``, or there is no such variant.
    """
    check_class_counts(class_counts, num_columns=len(class_counts), num_images=num_images)
    counts = class_counts.double()
    share = counts / num_images
    inner = share.clamp(max=1 - 0.5 / max(num_images, 1))  # half an image without it
    factors = {
        "raw": lambda: -share.log(),
        "smooth": lambda: 1 + ((num_images + 1) / (counts + 1)).log(),
        "rel": lambda: -torch.logit(inner),
        "normit": lambda: -torch.special.ndtri(inner),
        "gombit": lambda: -torch.log(-torch.log1p(-inner)),
        "base2": lambda: -share.log2(),
        "base10": lambda: -share.log10(),
    }
    if variant not in factors:
        raise ValueError(f"variant must be one of {get_args(Variant)}, got {variant!r}")
    return factors[variant]()


def _product(
    logits: Tensor,
    class_counts: Tensor,
    *,
    num_images: int,
    variant: Variant,
    background: bool,
) -> Tensor:
    """Return the logits times the factors, at least float32."""
    check_class_counts(class_counts, num_columns=logits.shape[1] - background)
    factors = inverse_image_frequency(class_counts, num_images=num_images, variant=variant)
    if background:
        factors = F.pad(factors, (0, 1), value=1.0)
    logits = at_least_float32(logits)
    # By a factor of 0 or less an absent class would come back.
    return (logits * factors.to(logits)).masked_fill(logits == -math.inf, -math.inf)
