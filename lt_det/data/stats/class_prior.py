"""Class priors made from counts; the one place that knows about the background's prior."""

from __future__ import annotations

import numpy as np


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
