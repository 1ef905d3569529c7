"""Seesaw loss: softmax that spares rare classes, and spares no class that is mistaken for another.

Source: Wang et al., "Seesaw Loss for Long-Tailed Instance Segmentation", arXiv:2008.10032,
Eq. 3-7, and mmdetection's release, which adds two columns for objectness.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lt_det.losses.checks import at_least_float32, check_labels
from lt_det.losses.cross_entropy import softmax_ce_loss
from lt_det.losses.reduction import Reduction, reduce_loss
from lt_det.losses.state import LossState


class SeenLabels(LossState):
    """Numbers of rows of each class so far, this batch's included."""

    moves = "before"
    provides = ("seen_counts",)
    counts: Tensor

    def __init__(self, num_classes: int) -> None:
        """Start with none seen."""
        super().__init__(num_classes)
        self.register_buffer("counts", torch.zeros(num_classes, dtype=torch.float64))

    def arguments(self) -> dict[str, Tensor]:
        """Return the counts, ``(K,)`` float64."""
        return {"seen_counts": self.counts}

    def of_batch(self, logits: Tensor, targets: Tensor, **parameters: Any) -> Tensor:  # noqa: ARG002
        """Return the counts of a batch, ``(K,)`` float64; the background is not counted."""
        counts = self.counts.new_zeros(self.num_classes + 1)
        counts.scatter_add_(0, targets, torch.ones_like(targets, dtype=counts.dtype))
        return counts[: self.num_classes]

    def add(self, total: Tensor) -> None:
        """Add the counts of a batch."""
        self.counts += total


def seesaw_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    seen_counts: Tensor | None = None,
    p: float = 0.8,
    q: float = 2.0,
    eps: float = 0.01,
    background: bool = False,
    reduction: Reduction = "none",
) -> Tensor:
    """Return ``-log( e^{z_y} / sum_j S_yj e^{z_j} )`` over the classes, plus objectness, in nats.

    ``S_yj = min(1, N_j / N_y)^p max(1, s_j / max(s_y, eps))^q`` for j other than y, ``S_yy = 1``;
    N are the rows of a class so far, at least 1, and s is the softmax over the classes, without
    gradient. Background rows have no part of the classes. Objectness is the cross-entropy of two
    columns, object and background, on all rows.

    As the release: N counts sampled regions, where the paper counts instances. Unlike there, they
    are counted over all ranks, and the background is not.

    Args:
        logits: ``(N, K)`` float, or ``(N, K + 2)`` with object and background last.
        labels: ``(N,)`` int64 in ``[0, K)``, or K for the background.
        seen_counts: N, ``(K,)``, see :class:`SeenLabels`; None is none.
        p: exponent of the mitigation; 0 is none.
        q: exponent of the compensation; 0 is none.
        eps: least score that a compensation is relative to, in (0, 1].
        background: whether there are the columns object and background.
        reduction: "none", "mean" or "sum".

    Returns:
        ``(N,)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, ``p`` or ``q`` is negative, or ``eps`` not in
            (0, 1].
    """
    check_labels(logits, labels)
    for name, value in (("p", p), ("q", q)):
        if value < 0:
            raise ValueError(f"{name} must be at least 0, got {value}")
    if not 0.0 < eps <= 1.0:
        raise ValueError(f"eps must be in (0, 1], got {eps}")
    logits = at_least_float32(logits)
    num_classes = logits.shape[1] - 2 if background else logits.shape[1]
    classes = logits[:, :num_classes]
    foreground = labels < num_classes
    own = labels.clamp(max=num_classes - 1)
    log_scores = classes.detach().log_softmax(dim=1)
    own_scores = log_scores.gather(1, own[:, None]).clamp(min=math.log(eps))
    log_factors = q * (log_scores - own_scores).clamp(min=0)
    if seen_counts is not None:
        log_counts = seen_counts.double().clamp(min=1).log().to(logits)
        log_factors = log_factors + p * (log_counts - log_counts[own][:, None]).clamp(max=0)
    log_factors = log_factors.scatter(1, own[:, None], 0.0)
    # A background row has no class: its own column stands in for it, and counts for nothing.
    loss = softmax_ce_loss(classes + log_factors, own) * foreground
    if background:
        loss = loss + softmax_ce_loss(logits[:, num_classes:], (~foreground).long())
    return reduce_loss(loss, reduction)


def seesaw_plain_loss(logits: Tensor, labels: Tensor, *, background: bool = False) -> Tensor:
    """Return ``-log`` of the label's score, ``(N,)``: no class is spared; see :func:`seesaw_loss`.

    It is the softmax over the classes and objectness; without a background the former alone.
    """
    if not background:
        return softmax_ce_loss(logits, labels)
    return seesaw_loss(logits, labels, p=0.0, q=0.0, background=True)
