"""Halted focal loss: focal loss up to probability phi, cross-entropy's slope beyond.

Source: "High-Likelihood Area Matters", OpenReview 7Yhok3vJpU, Eq. 6 and section 3.2. The printed
constant b makes the loss jump upwards at phi; here it is the one that keeps it continuous.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_det.losses.checks import check_class_counts
from lt_det.losses.focal import weigh_by_alpha
from lt_det.losses.margin import (
    ce_beyond_halt,
    focal_of_margin,
    logit,
    sigmoid_margin,
    softmax_margin,
)
from lt_det.losses.reduction import Reduction, reduce_loss
from lt_det.losses.tail import tail_classes

HaltedMode = Literal["positives", "p_t", "release"]


def sigmoid_halted_focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    phi: float = 0.5,
    mode: HaltedMode = "positives",
    reduction: Reduction = "none",
) -> Tensor:
    """Return focal loss where ``p_t <= phi``, else ``-alpha_t (log p_t + b)``, in nats.

    ``b = -(1 - (1 - phi)^gamma) log phi``; the loss may be negative.

    Args:
        logits: ``(N, K)`` float, foreground classes only. A negative at minus infinity is absent:
            its loss is 0.
        targets: ``(N, K)`` float, 0 or 1; all zero for the background.
        alpha: as in :func:`~lt_det.losses.focal.sigmoid_focal_loss`.
        gamma: as there.
        phi: where the focal loss halts, in (0, 1); 0.5 in the paper.
        mode: "positives": FL(head) + HFL(tail), positives being the rare class; paper and
            release agree on it. "p_t": Eq. 6 on positives and negatives. "release": the released
            code's HFL, which asks for score p > phi of both: negatives get cross-entropy's slope
            where they are wrong.
        reduction: "none", "mean" or "sum" over all N x K elements.

    Returns:
        ``(N, K)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, or a parameter is out of range.
    """
    margin = sigmoid_margin(logits, targets)
    halted = ce_beyond_halt(margin, gamma=gamma, phi=phi)
    focal = focal_of_margin(margin, gamma=gamma)
    beyond, positive = margin > logit(phi), targets > 0.5
    if mode == "p_t":
        # The constant is not that of a class that is absent.
        loss = torch.where(beyond & (margin < math.inf), halted, focal)
    elif mode in ("positives", "release"):
        loss = torch.where(beyond & positive, halted, focal)
        if mode == "release":
            # A negative's score is 1 - p_t, so it passes phi where p_t falls below 1 - phi.
            wrong = (margin < logit(1 - phi)) & ~positive
            loss = torch.where(wrong, ce_beyond_halt(margin, gamma=gamma, phi=1 - phi), loss)
    else:
        raise ValueError(f"mode must be 'positives', 'p_t' or 'release', got {mode!r}")
    return reduce_loss(weigh_by_alpha(loss, targets, alpha=alpha), reduction)


def softmax_halted_focal_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    class_counts: Tensor | None = None,
    gamma: float = 1.0,
    phi: float = 0.5,
    tail_fraction: float = 1.0,
    background: bool = False,
    reduction: Reduction = "none",
) -> Tensor:
    """Return focal loss, but ``-(log p_y + b)`` where ``p_y > phi`` and y is rare, in nats.

    ``b = -(1 - (1 - phi)^gamma) log phi``; the loss may be negative.

    Args:
        logits: ``(N, C)`` float, C >= 2.
        labels: ``(N,)`` int64 in ``[0, C)``.
        class_counts: ``(C,)``, frequency of each column; not needed for ``tail_fraction`` 1.
        gamma: at least 0.
        phi: where the focal loss halts, in (0, 1).
        tail_fraction: t of section 3.2, in [0, 1]: the ``round(t C)`` rarest columns are halted,
            ties by class id. 1 is HFL, 0 focal loss.
        background: whether the last column is the background of a detector, the most frequent
            class: it is not halted, nor counted among the C.
        reduction: "none", "mean" or "sum".

    Returns:
        ``(N,)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, or a parameter is out of range.
    """
    margin = softmax_margin(logits, labels)
    loss = ce_beyond_halt(margin, gamma=gamma, phi=phi)
    beyond = margin > logit(phi)
    if needs_counts(tail_fraction=tail_fraction):
        if class_counts is None:
            raise ValueError(f"class_counts must be given for tail_fraction {tail_fraction}")
        check_class_counts(class_counts, num_columns=logits.shape[1])
        foreground = class_counts[:-1] if background else class_counts
        tail = tail_classes(foreground, tail_fraction=tail_fraction).to(beyond.device)
        beyond &= F.pad(tail, (0, int(background)))[labels]
    elif background:
        beyond &= labels < logits.shape[1] - 1
    return reduce_loss(torch.where(beyond, loss, focal_of_margin(margin, gamma=gamma)), reduction)


def needs_counts(*, tail_fraction: float, **_: Any) -> bool:
    """Return whether these hyper-parameters tell rare classes from frequent ones."""
    return tail_fraction != 1
