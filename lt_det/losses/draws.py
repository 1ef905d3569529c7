"""Random draws of losses: the same for the same seed, iteration and rank."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """Source of the generators of a loss.

    A second look at the loss of an iteration, such as the meta learner's or one for logging, draws
    the same numbers as the training step; a resumed training draws those of an uninterrupted one.

    Attributes:
        seed: of the training.
        current_iteration: called at each loss; None means outside of a training.
        place: which of several classifiers; the stage of a cascade.
    """

    seed: int
    current_iteration: Callable[[], int | None]
    place: int = 0

    def generator(self, device: torch.device) -> torch.Generator | None:
        """Return a generator for this iteration; None outside of a training: torch's own state."""
        iteration = self.current_iteration()
        if iteration is None:
            return None
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        sequence = np.random.SeedSequence([abs(self.seed), iteration, rank, self.place])
        generator = torch.Generator(device=device)
        generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0]) >> 1)
        return generator


def drawn_rows(
    candidates: Tensor, number: Tensor | float, *, generator: torch.Generator | None
) -> Tensor:
    """Return which rows are drawn of each column's candidates, without replacement.

    Nothing here waits for the device.

    Args:
        candidates: ``(N,)`` or ``(N, G)`` bool.
        number: how many, a scalar or ``(G,)``; all if there are fewer.
        generator: of the draws; None is torch's own.

    Returns:
        bool of the shape of ``candidates``.
    """
    keys = torch.rand(candidates.shape, generator=generator, device=candidates.device)
    order = torch.argsort(keys.masked_fill(~candidates, math.inf), dim=0, stable=True)
    places = torch.arange(len(order), device=order.device).view(-1, *[1] * (order.dim() - 1))
    place = torch.empty_like(order).scatter_(0, order, places.expand_as(order))
    return candidates & (place < number)
