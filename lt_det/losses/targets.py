"""Labels and one-hot targets; the background is label K and has no target column."""

from __future__ import annotations

import torch
from torch import Tensor


def one_hot_targets(labels: Tensor, *, num_classes: int, dtype: torch.dtype) -> Tensor:
    """Return ``(N, K)`` one-hot targets; rows of the background are all zero.

    Args:
        labels: ``(N,)`` int64 in ``[0, K]``, K = background.
        num_classes: K, foreground classes.
        dtype: floating dtype of the result.
    """
    targets = torch.zeros(labels.shape[0], num_classes + 1, dtype=dtype, device=labels.device)
    targets.scatter_(1, labels[:, None], 1.0)
    return targets[:, :num_classes]
