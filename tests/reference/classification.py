"""Accuracies and calibration as printed: scalars and loops."""

from __future__ import annotations

import math


def class_accuracy(labels: list[int], predicted: list[int], class_id: int) -> float:
    mine = [p for y, p in zip(labels, predicted) if y == class_id]
    return sum(p == class_id for p in mine) / len(mine)


def natural_accuracy(labels: list[int], predicted: list[int], train_counts: list[int]) -> float:
    """sum_c n_c a_c / sum_c n_c."""
    total = sum(train_counts)
    return sum(n / total * class_accuracy(labels, predicted, c) for c, n in enumerate(train_counts))


def calibration_error(confidence: list[float], correct: list[bool], num_bins: int) -> float:
    """sum_b |B_b| / N |acc(B_b) - conf(B_b)|, with bin b being ((b - 1) / M, b / M]."""
    error = 0.0
    for b in range(1, num_bins + 1):
        rows = [(p, c) for p, c in zip(confidence, correct) if max(1, math.ceil(p * num_bins)) == b]
        if rows:
            accuracy = sum(c for _, c in rows) / len(rows)
            mean = sum(p for p, _ in rows) / len(rows)
            error += len(rows) / len(confidence) * abs(accuracy - mean)
    return error


def tau_normalised_logits(
    weights: list[list[float]], feature: list[float], tau: float
) -> list[float]:
    """w_k / |w_k|^tau . x, without a bias."""
    logits = []
    for row in weights:
        norm = math.sqrt(sum(w * w for w in row))
        logits.append(sum(w / norm**tau * x for w, x in zip(row, feature)))
    return logits


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(z - max(logits)) for z in logits]
    return [p / sum(powers) for p in powers]
