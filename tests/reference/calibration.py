"""Calibrations as printed: scores of one region, in plain Python, no shift of logits anywhere."""

from __future__ import annotations

import math


def norcal_scores(logits: list[float], divisors: list[float]) -> list[float]:
    """(e^z_k / a_k) / (sum_j e^z_j / a_j + e^z_bg), the background's last."""
    parts = [math.exp(z) / a for z, a in zip(logits, divisors)] + [math.exp(logits[-1])]
    return [p / sum(parts) for p in parts]


def fracal_shift(counts: list[float], num_images: float) -> list[float]:
    return [-math.log10(n / num_images) - math.log10(len(counts)) for n in counts]


def fracal_scores(
    logits: list[float],
    counts: list[float],
    dimensions: list[float],
    num_images: float,
    strength: float,
) -> list[float]:
    """softmax(z + w), the foreground over D^strength, the row over its sum; background last."""
    shifts = [*fracal_shift(counts, num_images), 0.0]
    powers = [math.exp(z + w) for z, w in zip(logits, shifts)]
    scores = [p / sum(powers) for p in powers]
    scores = [s / d**strength for s, d in zip(scores, [*dimensions, 1.0])]
    return [s / sum(scores) for s in scores]


def sigmoid_fracal_scores(
    logits: list[float],
    counts: list[float],
    dimensions: list[float],
    num_images: float,
    strength: float,
) -> list[float]:
    total = sum(d**strength for d in dimensions)
    scores = []
    for z, w, d in zip(logits, fracal_shift(counts, num_images), dimensions):
        phi = -math.log10(d**strength / total) + math.log10(1 / len(counts))
        scores.append(1 / (1 + math.exp(-z)) / (1 + math.exp(-(z + w + phi))))
    return scores


def logn_logits(logits: list[float], mean: list[float], variance: list[float]) -> list[float]:
    beta = min(mean)
    return [(z - (m - beta)) / math.sqrt(v) for z, m, v in zip(logits, mean, variance)]


def box_counting_dimension(centres: list[tuple[float, float]], largest: int = 64) -> float:
    """Slope of log(cells with a centre) on log(side) over the grids of at most n cells."""
    if len(centres) < 4:
        return 1.0
    points = []
    for side in range(1, largest + 1):
        if side * side > len(centres):
            break
        cells = {
            (i, j)
            for x, y in centres
            for i in range(side)
            for j in range(side)
            if i / side <= x < (i + 1) / side and j / side <= y < (j + 1) / side
        }
        points.append((math.log(side), math.log(len(cells))))
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum(
        (x - mean_x) ** 2 for x, _ in points
    )
    return max(slope, 1.0)
