"""Equilibrium loss of LOCE: softmax corrected for how well each class scores so far.

Source: Feng et al., "Exploring Classification Equilibrium in Long-Tailed Object Detection",
arXiv:2108.07507, Eq. 2-4, and its release; without its memory of features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_det.losses.checks import at_least_float32, check_labels
from lt_det.losses.cross_entropy import softmax_ce_loss
from lt_det.losses.reduction import Reduction
from lt_det.losses.state import LossState


class MeanScores(LossState):
    """Moving mean of the score that the rows of a class give to it, this batch's included."""

    moves = "before"
    provides = ("mean_scores",)
    #: Of the score at the start, and of the mean by step, as in the release.
    start, momentum = 0.01, 0.9
    scores: Tensor

    def __init__(self, num_classes: int) -> None:
        """Start with the same score for all classes."""
        super().__init__(num_classes)
        scores = torch.full((num_classes,), self.start, dtype=torch.float64)
        self.register_buffer("scores", scores)

    def arguments(self) -> dict[str, Tensor]:
        """Return the mean scores, ``(K,)`` float64."""
        return {"mean_scores": self.scores}

    def of_batch(self, logits: Tensor, targets: Tensor, **parameters: Any) -> Tensor:  # noqa: ARG002
        """Return sums of the labels' scores and numbers of rows, ``(2, K)`` float64.

        The scores are those of the softmax over all columns. The background is not counted.
        """
        scores = at_least_float32(logits).softmax(dim=1).double()
        sums = scores.new_zeros(2, self.num_classes + 1)
        if len(targets):
            own = scores.gather(1, targets[:, None])[:, 0]
            both = torch.stack([own, torch.ones_like(own)])
            sums.scatter_add_(1, targets[None].expand(2, -1), both)
        return sums[:, : self.num_classes]

    def add(self, total: Tensor) -> None:
        """Move the means of the classes that were there."""
        score, rows = total
        mean = score / rows.clamp(min=1)
        moved = self.momentum * self.scores + (1 - self.momentum) * mean
        self.scores.copy_(torch.where(rows > 0, moved, self.scores))


def equilibrium_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    mean_scores: Tensor | None = None,
    background_score: float = 0.01,
    background: bool = False,
    reduction: Reduction = "none",
) -> Tensor:
    """Return ``-log( s_y e^{z_y} / sum_j s_j e^{z_j} )``, s the mean scores so far, in nats.

    s_j is the moving mean of the score that the rows of class j give to it, without gradient; a
    class that is recognised badly is held down less. The background's is fixed. Equal scores are
    cross-entropy, as at the start.

    As the release, s moves before the loss of the same batch. There it moves by one step of 0.1
    for each annotated object that has a region, and for objects from a memory of features. Here a
    loss sees no objects and there is no memory: it moves by one such step for each class in the
    batch of all ranks, with the mean of its regions. The release does not keep s in a checkpoint.

    Args:
        logits: ``(N, C)`` float. In an R-CNN, C = K + 1 and the background is the last column.
        labels: ``(N,)`` int64 in ``[0, C)``.
        mean_scores: s, ``(K,)``, see :class:`MeanScores`; None is equal scores.
        background_score: s of the background, above 0.
        background: whether the last column is the background.
        reduction: "none", "mean" or "sum".

    Returns:
        ``(N,)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, or ``background_score`` is not above 0.
    """
    check_labels(logits, labels)
    if not 0.0 < background_score < float("inf"):
        raise ValueError(f"background_score must be above 0 and finite, got {background_score}")
    if mean_scores is None:
        return softmax_ce_loss(logits, labels, reduction=reduction)
    # A class without any score, of extreme logits, must not be infinitely far away.
    scores = mean_scores.double().clamp(min=1e-12)
    if background:
        scores = F.pad(scores, (0, 1), value=background_score)
    logits = at_least_float32(logits)
    return softmax_ce_loss(logits + scores.log().to(logits), labels, reduction=reduction)
