"""Threshold of repeat factor sampling, by the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Largest ratio of class frequencies that needs nothing done about it.
BALANCED = 2.0
#: From so many classes on a softmax has too many rivals in an image for its labels to be complete.
MANY_CLASSES = 300
#: Gupta et al., CVPR 2019.
_LVIS_THRESHOLD = 0.001


def imbalance(counts: Sequence[int]) -> float:
    """Return how many times more frequent the most frequent class is than the rarest seen one."""
    seen = [count for count in counts if count]
    return max(seen) / min(seen) if seen else 1.0


@dataclass(frozen=True)
class Repetition:
    """Repeat factor sampling.

    Attributes:
        threshold: t; 0 for none.
        reason: why this.
    """

    threshold: float
    reason: str


def repetition(image_counts: Sequence[int], *, images: int) -> Repetition:
    """Return the threshold of repeat factor sampling that does something, or none.

    LVIS's 0.001 for many classes, if it draws the rarest twice as often. Else the geometric mean of
    the largest and the smallest share of images: a class in the middle of the tail, on a
    logarithmic scale, is drawn as it is.

    Args:
        image_counts: K numbers of training images.
        images: annotated images.
    """
    shares = [count / max(images, 1) for count in image_counts if count]
    ratio = imbalance(image_counts)
    if len(shares) < 2 or ratio < BALANCED:
        return Repetition(
            0.0, f"every image once an epoch: the classes differ in frequency by {ratio:.3g} only"
        )
    if len(image_counts) >= MANY_CLASSES and min(shares) <= _LVIS_THRESHOLD / 4:
        return Repetition(_LVIS_THRESHOLD, "LVIS's (Gupta et al. 2019)")
    middle = math.sqrt(min(shares) * max(shares))
    largest = math.sqrt(middle / min(shares))
    return Repetition(
        float(f"{middle:.2g}"),
        "the middle, on a logarithmic scale, of the shares of images that the rarest and the most "
        f"frequent class are in ({min(shares):.2g} and {max(shares):.2g}): the rarest is drawn "
        f"{largest:.2g} times as often",
    )
