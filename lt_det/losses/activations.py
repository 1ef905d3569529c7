"""Activations: from logits to the scores of a prediction.

Each takes ``background``: whether there is a column for the background, the last. Then it returns
one column more than there are classes, the background's score last.
"""

from __future__ import annotations

import torch
from torch import Tensor


def softmax_scores(logits: Tensor, *, background: bool) -> Tensor:
    """Return the softmax over all columns, ``(N, C)``."""
    del background
    return logits.softmax(dim=1)


def sigmoid_scores(logits: Tensor, *, background: bool) -> Tensor:
    """Return the sigmoid of each column, ``(N, C)``."""
    del background
    return logits.sigmoid()


def sigmoid_beside_background(logits: Tensor, *, background: bool) -> Tensor:
    """Return ``s(z_c) (1 - s(z_bg))`` of the classes, and ``s(z_bg)``; s is the sigmoid.

    Without a background column it is the sigmoid.
    """
    scores = logits.sigmoid()
    if not background:
        return scores
    last = scores[:, -1:]
    return torch.cat([scores[:, :-1] * (1 - last), last], dim=1)


def softmax_times_objectness(logits: Tensor, *, background: bool) -> Tensor:
    """Return the softmax over the classes times that of object, and the background's score.

    The last two columns are object and background. Without them it is the softmax.
    """
    if not background:
        return logits.softmax(dim=1)
    objectness = logits[:, -2:].softmax(dim=1)
    return torch.cat([logits[:, :-2].softmax(dim=1) * objectness[:, :1], objectness[:, 1:]], dim=1)


#: These are the softmax or the sigmoid where there is no background.
BESIDE_BACKGROUND = (sigmoid_beside_background, softmax_times_objectness)
