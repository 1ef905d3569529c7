"""Losses of texts: the one place where sequences of tokens become the rows that every loss takes.

A token is classified as an image or a region is; its classes are the vocabulary.
"""

from __future__ import annotations

from typing import Callable

from torch import Tensor

from lt_det.losses.base_criterion import BaseCriterion
from lt_det.losses.reduction import Reduction, reduce_loss


def token_loss(
    loss: BaseCriterion | Callable[[Tensor, Tensor], Tensor],
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = -100,
    reduction: Reduction = "none",
) -> Tensor:
    """Return the loss of each token that is not ignored, or their mean or sum.

    Ignored positions (padding, a prompt) never reach the loss: they are in no mean, and their
    logits get a gradient of exactly 0, whatever they hold. Selecting the others makes the host
    wait for the device once.

    Args:
        loss: any criterion of this package, deferred and sigmoid ones too, or a function of the
            loss table of kind "softmax" with its arguments bound.
        logits: ``(B, T, V)`` float; texts, positions, vocabulary. Any other leading axes will do.
        labels: ``(B, T)`` int64 in ``[0, V)``, or ``ignore_index``.
        ignore_index: label of the positions without a loss; -100 as in PyTorch. If it is an id of
            the vocabulary, leave it out of the class counts too
            (:func:`lt_det.data.token_counts.count_tokens`).
        reduction: "none", or over the tokens that are not ignored "mean" or "sum". What a mean is
            divided by, a criterion knows (:meth:`BaseCriterion.mean_loss`).

    Returns:
        ``(B, T)`` for "none", 0 where ignored; else a scalar. If all is ignored, 0 with a graph.

    Raises:
        ValueError: if shapes or dtypes disagree, a label is not in ``[0, V)`` nor ignored, or
            ``reduction`` is unknown.
    """
    if logits.dim() < 2 or labels.shape != logits.shape[:-1]:
        raise ValueError(
            "logits must have the shape of labels and the vocabulary as last axis, (B, T, V) and "
            f"(B, T), got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    keep = labels != ignore_index
    rows, row_labels = logits[keep], labels[keep]
    # F.cross_entropy would take -100 for ignored even if ignore_index is another one.
    wrong = row_labels[(row_labels < 0) | (row_labels >= logits.shape[-1])]
    if wrong.numel():
        raise ValueError(
            f"labels must be in [0, {logits.shape[-1]}) or ignore_index ({ignore_index}), not so "
            f"for {wrong.numel()} of them, first {wrong[:5].tolist()}"
        )
    if reduction == "mean" and isinstance(loss, BaseCriterion):
        return loss.mean_loss(rows, row_labels)
    row_losses = loss.row_losses if isinstance(loss, BaseCriterion) else loss
    losses = row_losses(rows, row_labels)
    if reduction == "none":
        return losses.new_zeros(labels.shape).masked_scatter(keep, losses)
    return reduce_loss(losses, reduction)
