"""Tail classes of the losses with two parts (OpenReview 7Yhok3vJpU, 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def tail_classes(class_counts: Tensor, *, tail_fraction: float) -> Tensor:
    """Return ``(C,)`` bool: the ``round(tail_fraction * C)`` rarest classes, ties by class id.

    Raises:
        ValueError: if ``tail_fraction`` is not in [0, 1].
    """
    if not 0.0 <= tail_fraction <= 1.0:
        raise ValueError(f"tail_fraction must be in [0, 1], got {tail_fraction}")
    # Not int(): in floats (1 - 0.8) * 10 is 1.99... Halves go to the even number, as in Python.
    size = round(tail_fraction * class_counts.numel())
    tail = torch.zeros(class_counts.numel(), dtype=torch.bool, device=class_counts.device)
    tail[torch.argsort(class_counts, stable=True)[:size]] = True
    return tail
