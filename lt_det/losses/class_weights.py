"""Class weights from class frequencies; they multiply any loss.

Sources: inverse frequency as Eq. 4 of the Eureka paper (OpenReview 7Yhok3vJpU); effective number
as Cui et al., arXiv:1901.05555.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Normalisation = Literal["mean_one", "paper", "max"]
Denominator = Literal["rows", "weights"]


def effective_number(class_counts: Tensor, *, beta: float) -> Tensor:
    """Return ``(1 - beta^n) / (1 - beta)``, float64 ``(C,)``: 1 for beta 0, n for beta to 1.

    Args:
        class_counts: ``(C,)``, positive.
        beta: in [0, 1).

    Raises:
        ValueError: if ``beta`` is out of range.
    """
    if not 0.0 <= beta < 1.0:
        raise ValueError(f"beta must be in [0, 1), got {beta}")
    # 1 - beta^n loses its digits for n (1 - beta) << 1; expm1 does not.
    log_beta = torch.tensor(beta, dtype=torch.float64).log()
    return -torch.expm1(class_counts.double() * log_beta.to(class_counts.device)) / (1 - beta)


def inverse_weights(frequency: Tensor, *, normalisation: Normalisation = "mean_one") -> Tensor:
    """Return ``(C,)`` weights proportional to ``1 / frequency``, float64.

    Args:
        frequency: ``(C,)``, positive: class counts, or their effective numbers.
        normalisation: "mean_one": mean weight 1 (the released code). "paper": mean frequency by
            own frequency (the printed formula; 5.4 times as much on CIFAR-10-LT-100). "max":
            largest weight 1.

    Raises:
        ValueError: if ``normalisation`` is none of these.
    """
    inverse = 1 / frequency.double()
    if normalisation == "mean_one":
        return inverse / inverse.mean()
    if normalisation == "paper":
        return inverse * frequency.double().mean()
    if normalisation == "max":
        return inverse / inverse.max()
    raise ValueError(f"normalisation must be 'mean_one', 'paper' or 'max', got {normalisation!r}")


@dataclass(frozen=True)
class ClassWeights:
    """Rule that makes class counts into weights of a loss (CB, FL+CB, EL+CB).

    Attributes:
        name: "effective_number" or "inverse_frequency".
        beta: of the effective number, in [0, 1); 0.9999 is the papers' for images.
        normalisation: over the foreground classes, see :func:`inverse_weights`.
        background: whether the last column is the background of a detector. It gets weight 1 and
            no part in the mean: its frequency is the region sampler's, not the data set's.
        denominator: what a mean loss is divided by. "rows": their number, so that a row counts the
            same in every batch (Cui et al.). "weights": the sum of the rows' weights, as
            ``torch.nn.CrossEntropyLoss(weight=)``, LDAM and the Eureka release; a batch of one
            class then has the loss without weights. See
            :class:`~lt_det.losses.criterion.Criterion`.

    Raises:
        ValueError: if ``name`` or ``denominator`` is none of these.
    """

    name: Literal["effective_number", "inverse_frequency"]
    beta: float = 0.9999
    normalisation: Normalisation = "mean_one"
    background: bool = False
    denominator: Denominator = "rows"

    def __post_init__(self) -> None:
        if self.name not in ("effective_number", "inverse_frequency"):
            raise ValueError(
                f"name must be 'effective_number' or 'inverse_frequency', got {self.name!r}"
            )
        if self.denominator not in ("rows", "weights"):
            raise ValueError(f"denominator must be 'rows' or 'weights', got {self.denominator!r}")

    def of_counts(self, class_counts: Tensor) -> Tensor:
        """Return ``(C,)`` weights of ``(C,)`` counts, float64."""
        frequency = class_counts[:-1] if self.background else class_counts
        if self.name == "effective_number":
            frequency = effective_number(frequency, beta=self.beta)
        weights = inverse_weights(frequency, normalisation=self.normalisation)
        return torch.cat([weights, weights.new_ones(1)]) if self.background else weights


def row_weights(weights: Tensor, targets: Tensor) -> Tensor:
    """Return the weight of each row: that of its class; shape ``(N,)`` or ``(N, 1)``.

    Args:
        weights: ``(C,)`` float.
        targets: labels ``(N,)`` int64, or targets ``(N, C)`` float. Of the latter, all elements
            of a row weigh as its positive class does, on average over several; a row without
            any (background) weighs 1.
    """
    if not targets.is_floating_point():
        return weights[targets]
    targets = targets.to(weights)
    positives = targets.sum(dim=1, keepdim=True)
    # No matrix product: autocast would make it half precision.
    average = (targets * weights).sum(dim=1, keepdim=True) / positives
    return torch.where(positives > 0, average, torch.ones_like(positives))
