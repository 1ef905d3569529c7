"""Scalar re-statements of every formula: no torch, no vectorisation, no log-sum-exp."""

from __future__ import annotations

import math


def softmax_ce(logits: list[float], label: int) -> float:
    """-log( e^{z_y} / sum_j e^{z_j} )."""
    return -math.log(math.exp(logits[label]) / sum(math.exp(z) for z in logits))


def sigmoid_ce(logit: float, target: float) -> float:
    """-t log s - (1 - t) log(1 - s), s = 1 / (1 + e^{-z})."""
    s = 1 / (1 + math.exp(-logit))
    return -target * math.log(s) - (1 - target) * math.log(1 - s)


def balanced_softmax(
    logits: list[float], label: int, counts: list[float], tau: float = 1.0
) -> float:
    """-log( n_y^tau e^{z_y} / sum_j n_j^tau e^{z_j} ): Eq. 4 for tau 1, Eq. 10 for tau 1/4."""
    weighted = [n**tau * math.exp(z) for n, z in zip(counts, logits)]
    return -math.log(weighted[label] / sum(weighted))


def balanced_sigmoid(
    logits: list[float],
    label: int | None,
    counts: list[float],
    num_images: int,
    keep_constant: bool = False,
) -> list[float]:
    """Eq. 36 for a foreground label, plain binary cross-entropy for None (background)."""
    losses = []
    k, n = len(counts), num_images
    for j, (z, n_j) in enumerate(zip(logits, counts)):
        if label is not None:
            if keep_constant:
                z = z - math.log((n / k) / n_j * (n - n_j) / (n - n / k))
            else:
                z = z - math.log((n - n_j) / n_j)
        losses.append(sigmoid_ce(z, 1.0 if j == label else 0.0))
    return losses
