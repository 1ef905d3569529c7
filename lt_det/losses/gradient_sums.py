"""State of the losses that balance a class by the gradients it has got so far."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from lt_det.losses.checks import at_least_float32
from lt_det.losses.state import LossState

# Of the logits that are looked at at once.
_ELEMENTS = 2**20


class GradientSums(LossState):
    """Sums of the gradients by the logits of positives and of negatives, by class.

    Over all rows, ranks and steps of the training, background rows included; without decay.

    Attributes:
        nothing_yet: ratio of a class that no gradient has reached yet.
    """

    moves = "after"
    nothing_yet: ClassVar[float]
    positive: Tensor
    negative: Tensor

    def __init__(self, num_classes: int) -> None:
        """Start with sums of 0."""
        super().__init__(num_classes)
        for name in ("positive", "negative"):
            self.register_buffer(name, torch.zeros(num_classes, dtype=torch.float64))

    def ratio(self) -> Tensor:
        """Return positive by negative sums, ``(K,)`` float64."""
        ratio = self.positive / (self.negative + 1e-10)
        seen = self.positive + self.negative > 0
        return torch.where(seen, ratio, torch.full_like(ratio, self.nothing_yet))

    @abstractmethod
    def gradients(self, logits: Tensor, targets: Tensor, **parameters: Any) -> Tensor:
        """Return the size of each gradient ``(N, C)``; logits and targets are at least float32."""

    def of_batch(self, logits: Tensor, targets: Tensor, **parameters: Any) -> Tensor:
        """Return the sums of a batch, ``(2, K)`` float64: of positives, of negatives."""
        total = self.positive.new_zeros(2, self.num_classes)
        # Some rows at a time: of all anchors of a dense detector the intermediate results would
        # take many times the memory of the logits, and on a CPU most of the time.
        rows = max(1, _ELEMENTS // max(logits.shape[1], 1))
        for some, of_some in zip(logits.split(rows), targets.split(rows)):
            hot = at_least_float32(of_some)
            gradient = self.gradients(at_least_float32(some), hot, **parameters)
            of_positives = gradient * hot
            for sums, part in zip(total, (of_positives, gradient - of_positives)):
                sums += part[:, : self.num_classes].sum(dim=0, dtype=torch.float64)
        return total

    def add(self, total: Tensor) -> None:
        """Add the sums of a batch."""
        self.positive += total[0]
        self.negative += total[1]
