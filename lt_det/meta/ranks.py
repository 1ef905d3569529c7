"""Communicate between processes; does nothing in a single one."""

from __future__ import annotations

from collections.abc import Iterable

import torch.distributed as dist
from torch import Tensor


def num_ranks() -> int:
    """Return the number of processes, 1 if no process group exists."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all ranks, in place."""
    if num_ranks() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def average_over_ranks(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over all ranks, in place, as DDP does with gradients."""
    ranks = num_ranks()
    if ranks > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)
            tensor /= ranks
