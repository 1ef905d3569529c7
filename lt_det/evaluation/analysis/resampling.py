"""Resample the images of a data set, and read an interval off the results.

Bootstrap over images: Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of
Statistics 1979.
"""

from __future__ import annotations

import numpy as np


def drawn_images(num_images: int, number: int, *, seed: int) -> np.ndarray:
    """Return ``(B, I)`` float64, how often each image is drawn, with replacement, in B resamples.

    Args:
        num_images: I, at least 1.
        number: B.
        seed: of the draws; the same for two runs makes their comparison paired.
    """
    rng = np.random.default_rng(seed)
    share = np.full(num_images, 1.0 / num_images)
    return rng.multinomial(num_images, share, size=number).astype(np.float64)


def interval(
    values: np.ndarray, confidence: float = 0.95, *, around: float | None = None
) -> tuple[float, float]:
    """Return the percentiles that hold ``confidence`` of the finite values; NaN without any.

    Args:
        values: of resamples.
        confidence: share of them.
        around: what their mean is moved to: AP of resamples is too high, since the same image
            comes several times. None leaves them.
    """
    finite = values[np.isfinite(values)]
    if around is not None and len(finite):
        finite = finite - finite.mean() + around
    if not len(finite):
        return (float("nan"), float("nan"))
    tail = (1 - confidence) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)
