"""Adaptive class suppression loss: only classes that a row is confused with are pushed down.

Source: Wang et al., "Adaptive Class Suppression Loss for Long-Tail Object Detection",
arXiv:2104.00885, Eq. 5-6, and its release.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_det.losses.checks import at_least_float32, check_class_counts
from lt_det.losses.cross_entropy import sigmoid_ce_loss
from lt_det.losses.draws import drawn_rows
from lt_det.losses.margin import check_open_unit, logit
from lt_det.losses.reduction import Reduction, reduce_loss


def acsl_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    class_counts: Tensor,
    score_threshold: float = 0.7,
    rare_max: float = 10.0,
    common_max: float = 100.0,
    rare_share: float = 0.01,
    common_share: float = 0.1,
    background: bool = False,
    generator: torch.Generator | None = None,
    reduction: Reduction = "none",
) -> Tensor:
    """Return ``-log p_t`` of the elements that take part, 0 of the others, in nats.

    On a foreground row these are its class and all columns that score ``score_threshold`` or
    more. On a background row it is the background's column; frequent classes on all these rows,
    common and rare ones on a share of them, drawn without replacement and the same for all classes
    of the group. The number is rounded down: with less than 100 background rows there is none for
    rare classes.

    As the release: its comment says that high scores take part on background rows as well; its
    code does not do that. Unlike there, groups are made of the counts and not read from a json,
    and the draws can be repeated.

    Args:
        logits: ``(N, K)`` float, or ``(N, K + 1)`` with the background last.
        targets: float in [0, 1] of the same shape.
        class_counts: ``(K,)``, images that contain the class.
        score_threshold: xi, in (0, 1).
        rare_max: most images of a rare class.
        common_max: most images of a common class.
        rare_share: of the background rows for rare classes, in [0, 1].
        common_share: of the background rows for common classes, in [0, 1].
        background: whether the last column is the background.
        generator: of the draws; None is torch's own.
        reduction: "none", "mean" or "sum" over all elements.

    Returns:
        the shape of ``logits`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, a count is not positive, or a share is out of
            range.
    """
    loss = sigmoid_ce_loss(logits, targets)
    num_classes = logits.shape[1] - background
    check_class_counts(class_counts, num_columns=num_classes)
    check_open_unit("score_threshold", score_threshold)
    for name, share in (("rare_share", rare_share), ("common_share", common_share)):
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"{name} must be in [0, 1], got {share}")
    positive = targets != 0
    is_background = ~positive[:, :num_classes].any(dim=1)
    confused = at_least_float32(logits.detach()) >= logit(score_threshold)
    counts = class_counts.to(logits.device)
    rare, common = counts <= rare_max, (counts > rare_max) & (counts <= common_max)
    on_background = ~(rare | common)[None].expand(len(logits), -1)
    for group, share in ((rare, rare_share), (common, common_share)):
        number = (share * is_background.sum().double()).floor()
        drawn = drawn_rows(is_background, number, generator=generator)
        on_background = on_background | (drawn[:, None] & group)
    on_background = F.pad(on_background, (0, int(background)), value=True)
    kept = torch.where(is_background[:, None], on_background, positive | confused)
    return reduce_loss(loss * kept, reduction)
