"""Losses of texts: turn sequences of tokens into the rows that every loss takes.

A token is classified as an image or a region is; its classes are the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

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
    logits get a gradient of exactly 0, whatever they hold. The host waits for the device twice: for
    the number of the others, and for their labels to be checked.

    Args:
        loss: any criterion of this package, deferred and sigmoid ones too, or a function of the
            loss table of kind "softmax" with its arguments bound: ``(N, V)`` logits and ``(N,)``
            labels to ``(N,)`` losses.
        logits: ``(B, T, V)`` float; texts, positions, vocabulary. Any other leading axes will do.
        labels: ``(B, T)`` int64 in ``[0, V)``, or ``ignore_index``.
        ignore_index: label of the positions without a loss; -100 as in PyTorch. If it is an id of
            the vocabulary, leave it out of the class counts too
            (:func:`lt_det.data.stats.token_counts.count_tokens`).
        reduction: "none", or over the tokens that are not ignored "mean" or "sum". What a mean is
            divided by, a criterion knows (:meth:`BaseCriterion.mean_loss`).

    Returns:
        ``(B, T)`` for "none", 0 where ignored; else a scalar. If all is ignored, 0 with a graph.

    Raises:
        ValueError: if shapes or dtypes disagree, a label is not in ``[0, V)`` nor ignored,
            ``reduction`` is unknown, or ``loss`` does not return one number a token.
    """
    if logits.dim() < 2 or labels.shape != logits.shape[:-1]:
        raise ValueError(
            "logits must have the shape of labels and the vocabulary as last axis, (B, T, V) and "
            f"(B, T), got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    kept = (labels != ignore_index).flatten().nonzero()[:, 0]
    rows, row_labels = logits.flatten(0, -2)[kept], labels.flatten()[kept]
    # F.cross_entropy would take -100 for ignored even if ignore_index is another one.
    is_wrong = (row_labels < 0) | (row_labels >= logits.shape[-1])
    if is_wrong.any():
        wrong = row_labels[is_wrong]
        raise ValueError(
            f"labels must be in [0, {logits.shape[-1]}) or ignore_index ({ignore_index}), not so "
            f"for {wrong.numel()} of them, first {wrong[:5].tolist()}"
        )
    if reduction == "mean" and isinstance(loss, BaseCriterion):
        return loss.mean_loss(rows, row_labels)
    row_losses = loss.row_losses if isinstance(loss, BaseCriterion) else loss
    losses = row_losses(rows, row_labels)
    if losses.shape != row_labels.shape:
        raise ValueError(
            "loss must return one number for each of the N tokens that are not ignored, shape "
            f"{tuple(row_labels.shape)}, got {tuple(losses.shape)}: give a function of PyTorch its "
            'reduction="none", and wrap a sigmoid loss in a Criterion'
        )
    if reduction == "none":
        return losses.new_zeros(labels.numel()).index_put((kept,), losses).view(labels.shape)
    return reduce_loss(losses, reduction)
