"""Standardise the logits of each class by their moments on training data: LogN.

Zhao et al., "Logit Normalization for Long-Tail Object Detection", IJCV 2024, arXiv:2203.17020;
release MCG-NJU/LogN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lt_det.modeling.calibration.affine import Affine


class LogitMoments:
    """Exact mean and variance of each logit column, summed up in one pass.

    In float64, by merging the moments of each batch (Chan et al., 1979): neither the order of the
    batches nor large logits change the result beyond rounding. The release has instead a running
    average with momentum 1e-4, which the last ten thousand batches decide.

    Attributes:
        count: rows so far.
        mean: ``(C,)`` float64.
    """

    def __init__(self, num_columns: int) -> None:
        """Start from nothing.

        Args:
            num_columns: C, a background included if there is one.
        """
        self.count = 0
        self.mean = torch.zeros(num_columns, dtype=torch.float64)
        self._squares = torch.zeros(num_columns, dtype=torch.float64)

    def add(self, logits: Tensor) -> None:
        """Add the rows of ``(R, C)`` logits; R may be 0.

        Raises:
            ValueError: if there are not C columns, or a logit is not finite.
        """
        rows = logits.detach().double().cpu()
        if rows.dim() != 2 or rows.shape[1] != len(self.mean):
            raise ValueError(
                f"logits must have shape (R, {len(self.mean)}), got {tuple(logits.shape)}"
            )
        if not len(rows):
            return
        mean = rows.mean(dim=0)
        self._merge(len(rows), mean, (rows - mean).square().sum(dim=0))

    def merge(self, other: LogitMoments) -> None:
        """Add the rows that ``other`` has seen, such as those of another process."""
        self._merge(other.count, other.mean, other._squares)

    def _merge(self, count: int, mean: Tensor, squares: Tensor) -> None:
        if not bool(mean.isfinite().all() and squares.isfinite().all()):
            raise ValueError("logits must be finite: the training of the classifier has diverged")
        if not count:
            return
        total = self.count + count
        step = mean - self.mean
        self._squares += squares + step.square() * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total

    @property
    def variance(self) -> Tensor:
        """``(C,)`` float64, divided by the number of rows.

        Raises:
            ValueError: if there was no row.
        """
        if not self.count:
            raise ValueError("no logits were added: there is no variance")
        return self._squares / self.count

    def to_dict(self) -> dict[str, Any]:
        """Return the moments as int and lists of float."""
        return {
            "count": self.count,
            "mean": self.mean.tolist(),
            "variance": self.variance.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LogitMoments:
        """Return the object of which :meth:`to_dict` gave ``values``.

        Raises:
            ValueError: if they are no moments.
        """
        if set(values) != {"count", "mean", "variance"} or not values["count"] > 0:
            raise ValueError(
                f"logit moments must have a count above 0, mean and variance, got {sorted(values)}"
            )
        mean = torch.tensor(values["mean"], dtype=torch.float64)
        variance = torch.tensor(values["variance"], dtype=torch.float64)
        if mean.dim() != 1 or mean.shape != variance.shape:
            raise ValueError("logit moments must have one mean and one variance for each column")
        moments = cls(len(mean))
        moments._merge(values["count"], mean, variance * values["count"])
        return moments


def logn(mean: Tensor, variance: Tensor) -> Affine:
    """Return the map ``z_k -> (z_k - (mu_k - beta)) / s_k``, beta the smallest mu.

    mu and s are mean and standard deviation of the foreground logits over the regions of the
    training set, of whatever class. A background is not touched (in the release mu 0, s 1).
    Affine: scale ``1 / s_k``, shift ``(beta - mu_k) / s_k``. The paper has softmax heads; with
    sigmoids the same map moves every class by itself, and a score threshold means something else.
    mu 0 and s 1 are the identity. As the background keeps its logit, the classes lose to it all
    the more the larger s is: the rule fits s about 1, as with the release's standardised training.

    Where we differ: exact moments (:class:`LogitMoments`); and a class whose logit is constant but
    for rounding (s below 1e-6 of the mean of all s) is not scaled, where the release divides by
    at least 3e-6 and magnifies the rounding.

    Args:
        mean: ``(K,)`` mu, of the foreground.
        variance: ``(K,)`` s squared.

    Raises:
        ValueError: if they are not K finite numbers each, or a variance is negative.
    """
    mean, variance = mean.double().cpu(), variance.double().cpu()
    fits = mean.dim() == 1 and mean.shape == variance.shape and len(mean) > 0
    if not fits or not bool((mean.isfinite() & variance.isfinite() & (variance >= 0)).all()):
        raise ValueError(
            "mean and variance must be K finite numbers each, variance at least 0, got shapes "
            f"{tuple(mean.shape)} and {tuple(variance.shape)}"
        )
    deviation = variance.sqrt()
    constant = deviation <= 1e-6 * deviation.mean()
    scale = torch.where(constant, 1.0, 1 / deviation)
    return Affine(scale, scale * (mean.min() - mean))
