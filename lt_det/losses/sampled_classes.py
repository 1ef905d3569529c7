"""Class set of a batch: its labels and some drawn classes, as the federated loss has it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sampled_classes(
    present: Tensor,
    *,
    has_background: Tensor,
    class_counts: Tensor,
    num_sampled: int,
    frequency_power: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return ``(K,)`` bool: ``present``, and drawn classes until the set has ``num_sampled``.

    Classes are drawn without replacement, with probabilities in proportion to
    ``class_counts^frequency_power``. Nothing here waits for the device.

    Args:
        present: ``(K,)`` bool, classes that are labels in the batch.
        has_background: bool scalar; the background takes one place of the set where it occurs.
        class_counts: ``(K,)``, positive.
        num_sampled: size of the set; K or more takes all classes.
        frequency_power: 0 draws all classes alike.
        generator: of the draws; None is torch's own.
    """
    # The largest of log weight + Gumbel noise are draws without replacement.
    uniform = torch.rand(present.shape, generator=generator, device=present.device)
    noise = -torch.log(-torch.log(uniform.double().clamp(1e-12, 1 - 1e-12)))
    keys = frequency_power * class_counts.to(present.device).double().log() + noise
    order = torch.argsort(keys.masked_fill(present, math.inf), descending=True, stable=True)
    place = torch.empty_like(order).scatter_(
        0, order, torch.arange(len(order), device=order.device)
    )
    return present | (place < num_sampled - has_background.long())
