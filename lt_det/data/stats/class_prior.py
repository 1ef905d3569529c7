"""Class priors from counts; the only place that adds the background's prior."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lt_det.data.stats.class_stats import ClassStats, Unit


def counts_with_background(counts: np.ndarray) -> np.ndarray:
    """Return ``(K + 1,)`` counts whose last entry, the background's, is the mean of the others.

    Annotations do not say how often the background is a label: the region sampler decides that,
    the same in training and testing. So the ratio of foreground to background must stay as the
    detector has it, and only the foreground is made uniform: the offset of a class is
    ``log(K n_j / sum(n))``, that of the background 0. Giving the background the mean count says
    just that, whatever common factor the loss cancels, and for every ``tau``. (The BALMS paper
    and release have no softmax with a background; this is the principled extension, not theirs.)

    Args:
        counts: ``(K,)`` float64, positive.
    """
    return np.append(counts, counts.mean())


def bound_counts(
    stats: ClassStats, *, kind: str, unit: Unit, background: bool = True
) -> tuple[Tensor, int]:
    """Return the class counts that a loss of ``kind`` wants, float64, and the number of images.

    Args:
        stats: statistics of the training set.
        kind: "softmax" gets K + 1 counts, background last; "sigmoid" K.
        unit: "image" or "instance".
        background: False where no logit is for the background: K counts for both kinds.
    """
    counts = stats.counts(unit)
    if kind == "softmax" and background:
        counts = counts_with_background(counts)
    return torch.from_numpy(counts), stats.num_images
