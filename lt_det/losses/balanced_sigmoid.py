"""Balanced Sigmoid: the loss behind the LVIS numbers of Balanced Softmax and BALMS.

Source: Ren et al., arXiv:2007.10740, appendix A.2, Eq. 36 and the remark below it. Each class is
a binary problem of its own, so there is no background column and no background prior.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from lt_det.losses.checks import at_least_float32, check_class_counts, check_targets
from lt_det.losses.reduction import Reduction, reduce_loss


def balanced_sigmoid_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    class_counts: Tensor,
    num_images: int,
    keep_constant: bool = False,
    reduction: Reduction = "none",
) -> Tensor:
    """Return binary cross-entropies of ``logits - log((1 - pi) / pi)`` on foreground rows, in nats.

    ``pi_j = class_counts_j / num_images``. Rows whose targets are all zero (background) get the
    plain binary cross-entropy, as the paper's remark and its release have it: with the offset
    there as well, the background would hardly be pushed down and false positives would abound.
    The logits are not changed in place (the release does so, and its meta loss then sees shifted
    logits).

    Args:
        logits: ``(N, K)`` float, foreground classes only.
        targets: ``(N, K)`` float in [0, 1]; all zero for the background.
        class_counts: ``(K,)``, images that contain the class (the release counts images).
        num_images: images with at least one annotation. Classes in every image are treated as
            missing from half an image, so that the offset stays finite.
        keep_constant: keep the constant ``-log(K - 1)`` of Eq. 36. The paper's remark and its
            release drop it.
        reduction: "none", "mean" or "sum" over all N x K elements.

    Returns:
        ``(N, K)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, a count is not positive, or ``num_images`` is
            smaller than a count.
    """
    check_targets(logits, targets)
    num_classes = logits.shape[1]
    check_class_counts(class_counts, num_columns=num_classes, num_images=num_images)
    frequency = class_counts.double().clamp(max=num_images - 0.5) / num_images
    offset = ((1 - frequency) / frequency).log()
    if keep_constant:
        # log((n/k) / (n - n/k)) = -log(k - 1)
        offset = offset - math.log(max(num_classes - 1, 1))
    logits, targets = at_least_float32(logits), at_least_float32(targets)
    foreground = (targets != 0).any(dim=1, keepdim=True)
    adjusted = logits - foreground * offset.to(logits)
    loss = F.binary_cross_entropy_with_logits(adjusted, targets, reduction="none")
    return reduce_loss(loss, reduction)
