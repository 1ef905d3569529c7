"""Class weights, from class frequencies or given one by one; they multiply any loss.

Sources: inverse frequency as Eq. 4 of the Eureka paper (OpenReview 7Yhok3vJpU); effective number
as Cui et al., arXiv:1901.05555; powers of the inverse frequency as DisAlign's generalised
re-weighting, Zhang et al., arXiv:2103.16370, Eq. 9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
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
    """Rule that makes class counts into weights of a loss (CB, FL+CB, EL+CB), or weights given.

    Attributes:
        name: "effective_number", "inverse_frequency" or "given".
        beta: of the effective number, in [0, 1); 0.9999 is the papers' for images.
        normalisation: over the foreground classes, see :func:`inverse_weights`.
        background: whether the last column is the background of a detector. It gets weight 1 and
            no part in the mean: its frequency is the region sampler's, not the data set's.
        denominator: what a mean loss is divided by. "rows": their number, so that a row counts the
            same in every batch (Cui et al.). "weights": the sum of the rows' weights, as
            ``torch.nn.CrossEntropyLoss(weight=)``, LDAM and the Eureka release; a batch of one
            class then has the loss without weights. See
            :class:`~lt_det.losses.criterion.Criterion`.
        power: of the frequency, at least 0; DisAlign has the inverse frequency to the power of 0.8
            on LVIS, with "mean_one" and "weights".
        values: of "given", the weight of each foreground class as it is, at least 0.

    Raises:
        ValueError: if ``name`` or ``denominator`` is none of these, a number is out of its range,
            or one is given that would do nothing.
    """

    name: Literal["effective_number", "inverse_frequency", "given"]
    beta: float = 0.9999
    normalisation: Normalisation = "mean_one"
    background: bool = False
    denominator: Denominator = "rows"
    power: float = 1.0
    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in ("effective_number", "inverse_frequency", "given"):
            raise ValueError(
                "name must be 'effective_number', 'inverse_frequency' or 'given', got "
                f"{self.name!r}"
            )
        if not 0.0 <= self.power < math.inf:
            raise ValueError(f"power must be at least 0 and finite, got {self.power}")
        object.__setattr__(self, "values", _checked_values(self.values, named=self.name))
        idle = ("beta", "normalisation", "power") if self.values else ()
        defaults = {f.name: f.default for f in fields(self)}
        for key in idle:
            if getattr(self, key) != defaults[key]:
                raise ValueError(
                    f"{key} {getattr(self, key)!r} would do nothing beside values: leave it "
                    f"{defaults[key]!r}"
                )
        if self.denominator not in ("rows", "weights"):
            raise ValueError(f"denominator must be 'rows' or 'weights', got {self.denominator!r}")

    def of_counts(self, class_counts: Tensor) -> Tensor:
        """Return ``(C,)`` weights of ``(C,)`` counts, float64."""
        frequency = class_counts[:-1] if self.background else class_counts
        if self.name == "effective_number":
            frequency = effective_number(frequency, beta=self.beta)
        frequency = frequency.double() ** self.power
        return self._beside_background(inverse_weights(frequency, normalisation=self.normalisation))

    def given(self, num_columns: int, *, device: torch.device) -> Tensor:
        """Return the ``(C,)`` weights that are given, float64.

        Raises:
            ValueError: if there is not one for each class.
        """
        check_number_of_values(self.values, num_classes=num_columns - self.background)
        weights = torch.tensor(self.values, dtype=torch.float64, device=device)
        return self._beside_background(weights)

    def _beside_background(self, weights: Tensor) -> Tensor:
        return torch.cat([weights, weights.new_ones(1)]) if self.background else weights


def check_number_of_values(values: Sequence[float], *, num_classes: int) -> None:
    """Raise unless there is one value for each class.

    Raises:
        ValueError: says both numbers.
    """
    if len(values) != num_classes:
        raise ValueError(
            f"values must have one number for each of the {num_classes} classes, in the order of "
            f"the class ids, got {len(values)}"
        )


def _checked_values(values: Sequence[float], *, named: str) -> tuple[float, ...]:
    if (named == "given") != (len(values) > 0):
        raise ValueError(
            f"values must be given with name 'given' and with no other, got {len(values)} of them "
            f"and name {named!r}"
        )
    bad = [
        i
        for i, v in enumerate(values)
        if isinstance(v, (bool, str)) or not isinstance(v, (int, float)) or not 0 <= v < math.inf
    ]
    if bad:
        raise ValueError(
            f"values must be finite numbers of at least 0, not so for {len(bad)} class ids, first "
            f"{bad[:5]}: {values[bad[0]]!r}"
        )
    if values and not any(values):
        raise ValueError("values must not all be 0: nothing would train")
    return tuple(float(v) for v in values)


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
