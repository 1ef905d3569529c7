"""Fixture of golden numbers: made by plain Python restatements, run beside the released code.

Six regions, four classes, label 4 is the background.
"""

from __future__ import annotations

import torch
from torch import Tensor

NUM_CLASSES = 4
LABELS = torch.tensor([0, 1, 3, 4, 4, 4])
IMAGES = [4.0, 40.0, 400.0, 4000.0]
INSTANCES = [5.0, 50.0, 500.0, 5000.0]
NUM_IMAGES = 5000


def golden_logits(columns: int) -> Tensor:
    """Return ``(6, columns)`` float64 logits."""
    rows = [[(((7 * i + 3 * j) % 11) - 5) / 4 for j in range(columns)] for i in range(6)]
    return torch.tensor(rows, dtype=torch.float64)
