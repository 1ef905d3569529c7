"""Eureka loss: a bonus for correct predictions of high probability.

Source: "High-Likelihood Area Matters", OpenReview 7Yhok3vJpU, Eq. 7-11; the conservative bonus is
of its successor, "Well-classified Examples are Underestimated" (AAAI 2022). Eq. 7 with Eq. 8 or
10 as printed would penalise high probabilities; here, as in Eq. 11, its figures and its release,
the bonus is a negative term that is added.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_det.losses.checks import check_class_counts
from lt_det.losses.class_weights import Normalisation, effective_number, inverse_weights
from lt_det.losses.focal import sigmoid_focal_loss
from lt_det.losses.margin import check_open_unit, logit, sigmoid_margin, softmax_margin
from lt_det.losses.reduction import Reduction, reduce_loss

Bonus = Literal["log", "conservative", "power", "simplified"]


def bonus_of_margin(
    margin: Tensor,
    *,
    bonus: Bonus = "log",
    log_end: float = 0.75,
    power: float = 4.0,
    phi: float = 0.5,
    clamp_eps: float = 0.0,
) -> Tensor:
    """Return the term that is added to the loss: at most 0, falling with p.

    Args:
        margin: logit of the probability p of the correct label, any shape.
        bonus: "log": ``log(1 - p)`` (Eq. 8). "conservative": its tangent beyond ``log_end``, so
            that it is bounded. "power": ``-p^power`` (Eq. 10). "simplified": ``log(1 - p) -
            log(1 - phi)`` beyond ``phi``, else 0 (Eq. 11).
        log_end: in (0, 1), of "conservative".
        power: above 0, of "power".
        phi: in (0, 1), of "simplified".
        clamp_eps: ``1 - p`` is at least this in the logarithm; 1e-5 in the release, whose bonus
            so has no gradient beyond. 0 is no clamp.

    Raises:
        ValueError: if a parameter is out of range.
    """
    if not 0.0 <= clamp_eps < 1.0:
        raise ValueError(f"clamp_eps must be in [0, 1), got {clamp_eps}")
    if bonus == "power":
        if power <= 0:
            raise ValueError(f"power must be above 0, got {power}")
        return -torch.exp(-power * F.softplus(-margin))
    log_wrong = -F.softplus(margin)
    if clamp_eps:
        log_wrong = log_wrong.clamp(min=math.log(clamp_eps))
    if bonus == "log":
        return log_wrong
    if bonus == "conservative":
        check_open_unit("log_end", log_end)
        tangent = math.log1p(-log_end) - (torch.sigmoid(margin) - log_end) / (1 - log_end)
        return torch.where(margin <= logit(log_end), log_wrong, tangent)
    if bonus == "simplified":
        check_open_unit("phi", phi)
        beyond = log_wrong - math.log1p(-phi)
        return torch.where(margin > logit(phi), beyond, torch.zeros_like(margin))
    raise ValueError(f"bonus must be 'log', 'conservative', 'power' or 'simplified', got {bonus!r}")


def encouragement(class_counts: Tensor, *, beta: float, normalisation: Normalisation) -> Tensor:
    """Return ``(C,)`` weights of the bonus, inverse to the effective number (Eq. 9), float64."""
    return inverse_weights(effective_number(class_counts, beta=beta), normalisation=normalisation)


def softmax_eureka_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    class_counts: Tensor,
    bonus: Bonus = "log",
    bonus_scale: float = 1.0,
    beta: float = 0.9999,
    normalisation: Normalisation = "mean_one",
    log_end: float = 0.75,
    power: float = 4.0,
    phi: float = 0.5,
    clamp_eps: float = 0.0,
    reduction: Reduction = "none",
) -> Tensor:
    """Return ``-log p_y + bonus_scale w_y bonus(p_y)``, in nats; not bounded below for "log".

    Args:
        logits: ``(N, C)`` float, C >= 2.
        labels: ``(N,)`` int64 in ``[0, C)``.
        class_counts: ``(C,)``, training frequency of each column, in any unit for beta 0.
        bonus: see :func:`bonus_of_margin`.
        bonus_scale: factor of all bonuses.
        beta: of the effective number, in [0, 1); 0 weighs all classes alike.
        normalisation: see :func:`~lt_det.losses.class_weights.inverse_weights`.
        log_end: see :func:`bonus_of_margin`.
        power: see :func:`bonus_of_margin`.
        phi: see :func:`bonus_of_margin`.
        clamp_eps: see :func:`bonus_of_margin`.
        reduction: "none", "mean" or "sum".

    Returns:
        ``(N,)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, or a parameter is out of range.
    """
    margin = softmax_margin(logits, labels)
    check_class_counts(class_counts, num_columns=logits.shape[1])
    weights = encouragement(class_counts, beta=beta, normalisation=normalisation)
    rewards = bonus_of_margin(
        margin, bonus=bonus, log_end=log_end, power=power, phi=phi, clamp_eps=clamp_eps
    )
    scales = (bonus_scale * weights).to(margin)[labels]
    return reduce_loss(F.softplus(-margin) + scales * rewards, reduction)


def sigmoid_eureka_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    class_counts: Tensor,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    bonus: Bonus = "log",
    bonus_scale: float = 1.0,
    beta: float = 0.0,
    normalisation: Normalisation = "mean_one",
    log_end: float = 0.75,
    power: float = 4.0,
    phi: float = 0.5,
    clamp_eps: float = 0.0,
    reduction: Reduction = "none",
) -> Tensor:
    """Return focal loss plus ``bonus_scale w_k bonus(p)`` on positives, in nats.

    For detection, of which the paper has no numbers. Positives only: negatives are the frequent
    class. ``alpha`` and ``gamma`` belong to the focal loss alone, as in the release: beside it
    the bonus is strong (at p = 0.9, slope 0.9 against 0.0007), hence its explicit scale.

    Args:
        logits: ``(N, K)`` float, foreground classes only.
        targets: ``(N, K)`` float, 0 or 1; all zero for the background.
        class_counts: ``(K,)``, training frequency of each class.
        alpha: see :func:`~lt_det.losses.focal.sigmoid_focal_loss`.
        gamma: as there; 0 is cross-entropy.
        bonus: see :func:`bonus_of_margin`.
        bonus_scale: factor of all bonuses.
        beta: of the effective number; 0 weighs all classes alike. Others are an extension of
            this package.
        normalisation: see :func:`~lt_det.losses.class_weights.inverse_weights`.
        log_end: see :func:`bonus_of_margin`.
        power: see :func:`bonus_of_margin`.
        phi: see :func:`bonus_of_margin`.
        clamp_eps: see :func:`bonus_of_margin`.
        reduction: "none", "mean" or "sum" over all N x K elements.

    Returns:
        ``(N, K)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, or a parameter is out of range.
    """
    base = sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=gamma)
    check_class_counts(class_counts, num_columns=logits.shape[1])
    weights = encouragement(class_counts, beta=beta, normalisation=normalisation)
    rewards = bonus_of_margin(
        sigmoid_margin(logits, targets),
        bonus=bonus,
        log_end=log_end,
        power=power,
        phi=phi,
        clamp_eps=clamp_eps,
    )
    scales = targets.to(base) * (bonus_scale * weights).to(base)
    return reduce_loss(base + scales * rewards, reduction)
