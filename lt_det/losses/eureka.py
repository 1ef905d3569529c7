"""Eureka loss: a bonus for correct predictions of high probability.

Source: "High-Likelihood Area Matters", OpenReview 7Yhok3vJpU, Eq. 7-11. Eq. 7 with Eq. 8 or 10 as
printed would penalise high probabilities; here, as in Eq. 11, its figures and its release, the
bonus is a negative term that is added.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_det.losses.bonus import Bonus, bonus_of_margin
from lt_det.losses.checks import at_least_float32, check_class_counts, is_compiled
from lt_det.losses.class_weights import Normalisation, effective_number, inverse_weights
from lt_det.losses.focal import sigmoid_focal_loss
from lt_det.losses.margin import softmax_margin
from lt_det.losses.reduction import Reduction, reduce_loss


def softmax_eureka_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    class_counts: Tensor | None = None,
    bonus_scale: float = 1.0,
    beta: float = 0.9999,
    normalisation: Normalisation = "mean_one",
    background: bool = False,
    base_weights: Tensor | None = None,
    reduction: Reduction = "none",
    **shape: Any,
) -> Tensor:
    """Return ``-log p_y + bonus_scale w_y bonus(p_y)``, in nats.

    Args:
        logits: ``(N, C)`` float, C >= 2.
        labels: ``(N,)`` int64 in ``[0, C)``.
        class_counts: ``(C,)``, training frequency of each column; not needed for ``beta`` 0.
        bonus_scale: factor of all bonuses.
        beta: of the effective number, in [0, 1); 0 weighs all classes alike.
        normalisation: see :func:`~lt_det.losses.class_weights.inverse_weights`.
        background: whether the last column is the background of a detector, the most frequent
            class: it gets no bonus, and no part in the normalisation.
        base_weights: ``(N,)``, of ``-log p_y`` and not of the bonus; None is 1.
        reduction: "none", "mean" or "sum".
        shape: form and parameters of the bonus, see
            :func:`~lt_det.losses.bonus.bonus_of_margin`; by default the log bonus with the
            release's clamp.

    Returns:
        ``(N,)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, or a parameter is out of range.
    """
    margin = softmax_margin(logits, labels)
    if beta and class_counts is not None:
        check_class_counts(class_counts, num_columns=logits.shape[1])
    foreground = logits.shape[1] - int(background)
    weights = encouragement(
        logits[:, :foreground],
        None if class_counts is None else class_counts[:foreground],
        beta=beta,
        normalisation=normalisation,
    )
    weights = F.pad(weights, (0, int(background)))
    scales = (bonus_scale * weights).to(margin)[labels]
    base = F.softplus(-margin)
    if base_weights is not None:
        base = base * base_weights.to(base)
    return reduce_loss(base + scales * bonus_of_margin(margin, **shape), reduction)


def sigmoid_eureka_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    class_counts: Tensor | None = None,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    bonus_scale: float = 1.0,
    beta: float = 0.0,
    normalisation: Normalisation = "mean_one",
    bonus: Bonus = "conservative",
    reduction: Reduction = "none",
    **shape: Any,
) -> Tensor:
    """Return focal loss plus ``bonus_scale w_k bonus(p)`` on positives, in nats.

    For detection, of which the paper has no numbers. Positives only: negatives are the frequent
    class. ``alpha`` and ``gamma`` belong to the focal loss alone, as in the release: beside it
    the bonus is strong (at p = 0.9, slope 0.36 against 0.0007), hence its explicit scale. The host
    waits for the device once, for the number of positives.

    Args:
        logits: ``(N, K)`` float, foreground classes only.
        targets: ``(N, K)`` float, 0 or 1; all zero for the background. Elements above 0 get the
            whole bonus, so that soft targets are none for this loss.
        class_counts: ``(K,)``, as in :func:`softmax_eureka_loss`, and so are all not named here.
        alpha: see :func:`~lt_det.losses.focal.sigmoid_focal_loss`.
        gamma: as there; 0 is cross-entropy.
        bonus_scale: factor of all bonuses.
        beta: other values than 0 are an extension of this package.
        normalisation: of the bonus' weights.
        bonus: form of the bonus; the successor's bounded one, so that scores do not saturate.
        reduction: "none", "mean" or "sum" over all N x K elements.
        shape: parameters of the bonus, as there.

    Returns:
        ``(N, K)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, or a parameter is out of range.
    """
    base = sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=gamma)
    weights = encouragement(logits, class_counts, beta=beta, normalisation=normalisation)
    # Of N x K elements some tens are positive: the rest would cost a third of the loss.
    positive = _everywhere(targets) if is_compiled() else targets.nonzero(as_tuple=True)
    margin = at_least_float32(logits)[positive]
    rewards = bonus_of_margin(margin, bonus=bonus, **shape)
    rewards = rewards * (bonus_scale * weights).to(base)[positive[1]]
    if is_compiled():
        rewards = rewards.masked_fill(targets[positive] == 0, 0.0)
    return reduce_loss(base.index_put(positive, rewards, accumulate=True), reduction)


def _everywhere(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return row and column of each element: how many are positive would break a graph."""
    rows = torch.arange(matrix.shape[0], device=matrix.device)
    columns = torch.arange(matrix.shape[1], device=matrix.device)
    return rows.repeat_interleave(len(columns)), columns.repeat(len(rows))


def encouragement(
    logits: Tensor, class_counts: Tensor | None, *, beta: float, normalisation: Normalisation
) -> Tensor:
    """Return ``(C,)`` weights of the bonus, inverse to the effective number (Eq. 9), float64.

    Raises:
        ValueError: if there are no counts, or not as many as columns, and ``beta`` is not 0.
    """
    if beta == 0:
        return torch.ones(logits.shape[1], dtype=torch.float64, device=logits.device)
    if class_counts is None:
        raise ValueError(f"class_counts must be given for beta {beta}, got None")
    check_class_counts(class_counts, num_columns=logits.shape[1])
    return inverse_weights(effective_number(class_counts, beta=beta), normalisation=normalisation)


def needs_counts(*, beta: float, **_: Any) -> bool:
    """Return whether these hyper-parameters weigh classes by their counts."""
    return beta != 0
