"""Detectron2's statistics of a box classifier, read from the device at once."""

from __future__ import annotations

import torch
from detectron2.utils.events import get_event_storage
from torch import Tensor


def log_classification_stats(
    predicted: Tensor, labels: Tensor, *, num_classes: int, prefix: str = "fast_rcnn"
) -> None:
    """Log "cls_accuracy" and, where there is foreground, "fg_cls_accuracy" and "false_negative".

    The numbers are those that Detectron2 logs under these names. It waits for the device five
    times to count; here the counts come over in one piece, so it is waited for once a step.

    Args:
        predicted: ``(R,)`` int64 in [0, K]. Nothing is logged where R is 0.
        labels: ``(R,)`` int64 in [0, K], K = background.
        num_classes: K.
        prefix: of the names.
    """
    if labels.numel() == 0:
        return
    foreground = (labels >= 0) & (labels < num_classes)
    correct = predicted == labels
    missed = foreground & (predicted == num_classes)
    masks = torch.stack([correct, foreground, foreground & correct, missed])
    num_correct, num_foreground, foreground_correct, num_missed = masks.sum(dim=1).tolist()
    storage = get_event_storage()
    storage.put_scalar(f"{prefix}/cls_accuracy", num_correct / labels.numel())
    if num_foreground:
        storage.put_scalar(f"{prefix}/fg_cls_accuracy", foreground_correct / num_foreground)
        storage.put_scalar(f"{prefix}/false_negative", num_missed / num_foreground)
