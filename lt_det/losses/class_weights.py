"""Class weights from class frequencies. They multiply any loss, from outside.

Sources: inverse frequency as Eq. 4 of the Eureka paper (OpenReview 7Yhok3vJpU); effective number
as Cui et al., arXiv:1901.05555.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Normalisation = Literal["mean_one", "paper", "max"]


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
