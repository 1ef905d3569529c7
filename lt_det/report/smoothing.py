"""Smooth a figure of classes over the logarithm of their frequency, with a band.

The smooth value is the mean of the classes around, weighted by a Gaussian of the distance in the
logarithm of the counts (Nadaraya and Watson). The band is a bootstrap over classes: it says how
much the curve depends on the classes that happen to be there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_GRID, _DRAWS, _CONFIDENCE = 60, 200, 0.95


@dataclass(frozen=True)
class Smooth:
    """A smooth curve.

    Attributes:
        counts: ``(G,)`` places.
        values: ``(..., G)`` smooth values.
        low: ``(..., G)`` lower edge of the band.
        high: ``(..., G)`` upper edge.
    """

    counts: np.ndarray
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray


def smooth(counts: np.ndarray, figures: np.ndarray, *, seed: int = 0) -> Smooth | None:
    """Return figures smoothed over the counts, None with fewer than four classes.

    All rows are resampled with the same classes, so the band of a difference is a paired one.

    Args:
        counts: ``(K,)`` > 0.
        figures: ``(M, K)``; NaN is left out.
        seed: of the resamples.
    """
    there = np.isfinite(counts) & (counts > 0)
    if not len(figures) or (there & np.isfinite(figures).any(axis=0)).sum() < 4:
        return None
    x, figures = np.log(counts[there]), figures[:, there]
    width = max(float(np.ptp(x)) / 10, 1e-3)
    grid = np.linspace(x.min(), x.max(), _GRID)
    kernel = np.exp(-0.5 * ((grid[:, None] - x[None]) / width) ** 2)  # (G, K)
    known = np.isfinite(figures)
    filled = np.where(known, figures, 0.0)
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(len(x), np.full(len(x), 1 / len(x)), size=_DRAWS)
    weights = np.concatenate([np.ones((1, len(x))), draws])  # (B, K)
    total = np.einsum("gk,bk,mk->bmg", kernel, weights, filled, optimize=True)
    mass = np.einsum("gk,bk,mk->bmg", kernel, weights, known.astype(float), optimize=True)
    # Nothing near: no value rather than one class's from far away.
    curves = np.where(mass > 1e-2, total / np.maximum(mass, 1e-12), np.nan)
    edge = 50 * (1 - _CONFIDENCE)
    with np.errstate(all="ignore"):
        low, high = (
            np.where(
                np.isfinite(curves[1:]).sum(axis=0) > _DRAWS // 2,
                _percentile(curves[1:], q),
                np.nan,
            )
            for q in (edge, 100 - edge)
        )
    return Smooth(np.exp(grid), curves[0], low, high)


def _percentile(curves: np.ndarray, q: float) -> np.ndarray:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # places without any value
        return np.asarray(np.nanpercentile(curves, q, axis=0))
