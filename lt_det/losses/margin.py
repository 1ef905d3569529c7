"""Formulas of the margin, shared by the softmax and sigmoid forms of focal and Eureka loss.

The margin is ``m = logit(p_t)``, p_t the probability of the correct label, so that
``-log p_t = softplus(-m)`` and ``log(1 - p_t) = -softplus(m)``. Neither saturates: with
``log_softmax``, float32 rounds ``log p`` to 0 from a margin of 17 on and ``log(1 - p)`` to -inf.
Every function is element-wise and finite, value and gradient, for margins up to 1e4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_det.losses.checks import at_least_float32, check_labels, check_targets


def softmax_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return ``(N,)`` margins ``z_y - log sum_{j != y} e^{z_j}``, at least float32.

    Args:
        logits: ``(N, C)`` float, C >= 2.
        labels: ``(N,)`` int64 in ``[0, C)``.

    Raises:
        ValueError: if shapes or dtypes disagree, or there is one column only.
    """
    check_labels(logits, labels)
    if logits.shape[1] < 2:
        raise ValueError(
            f"logits must have at least 2 columns for a margin, got {tuple(logits.shape)}"
        )
    logits = at_least_float32(logits)
    column = labels[:, None]
    others = logits.scatter(1, column, -math.inf).logsumexp(dim=1)
    return logits.gather(1, column)[:, 0] - others


def sigmoid_margin(logits: Tensor, targets: Tensor) -> Tensor:
    """Return ``(N, K)`` margins ``(2 t - 1) x``, at least float32.

    Args:
        logits: ``(N, K)`` float.
        targets: ``(N, K)`` float, 0 or 1.

    Raises:
        ValueError: if shapes or dtypes disagree.
    """
    check_targets(logits, targets)
    return (2 * at_least_float32(targets) - 1) * at_least_float32(logits)


def focal_of_margin(margin: Tensor, *, gamma: float | Tensor) -> Tensor:
    """Return ``-(1 - p)^gamma log p`` in nats.

    The power is taken in log space: ``(1 - p) ** gamma`` has gradient 0 * inf at p = 1 for
    gamma < 1.
    """
    return torch.exp(-gamma * F.softplus(margin)) * F.softplus(-margin)


def ce_beyond_halt(margin: Tensor, *, gamma: float, phi: float) -> Tensor:
    """Return ``-log p + (1 - (1 - phi)^gamma) log phi``, equal to the focal loss at p = phi.

    The constant is ``-b`` of Eq. 6 of the Eureka paper (OpenReview 7Yhok3vJpU), with the sign and
    without the alpha that the printed ``b`` got wrong.

    Raises:
        ValueError: if ``phi`` is not in (0, 1), or ``gamma`` is negative.
    """
    check_gamma(gamma)
    check_open_unit("phi", phi)
    return F.softplus(-margin) + (1 - (1 - phi) ** gamma) * math.log(phi)


def check_open_unit(name: str, value: float) -> None:
    """Raise unless ``value`` is in (0, 1).

    Raises:
        ValueError: names the argument.
    """
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must be in (0, 1), got {value}")


def check_gamma(gamma: float) -> None:
    """Raise unless ``gamma`` is at least 0.

    Raises:
        ValueError: names the argument.
    """
    if gamma < 0:
        raise ValueError(f"gamma must be at least 0, got {gamma}")


def logit(probability: float) -> float:
    """Return ``log(p / (1 - p))``."""
    return math.log(probability) - math.log1p(-probability)
