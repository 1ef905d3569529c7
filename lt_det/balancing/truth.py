"""Ground truth that candidates are judged by, of boxes or of images, as figures of classes.

Shape shorthand: B weightings, I images, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lt_det.evaluation.analysis.objects import Objects
from lt_det.evaluation.analysis.weighted_ap import class_aps

# Weights of images that are held at once.
_AT_ONCE = 2**23


class Truth(Protocol):
    """What the choice must know of a data set."""

    def images_by_class(self) -> list[np.ndarray]:
        """Return for each class the rows of its images."""

    def digest(self) -> str:
        """Return a sha256, in hex, that changes with what candidates are judged by."""

    def class_figures(
        self, judged: Any, weights: np.ndarray, *, classes: Sequence[int] | None = None
    ) -> np.ndarray:
        """Return ``(B, K)`` figures in percent, NaN where the images of a weighting say nothing.

        Args:
            judged: what a candidate found, as the evaluation of this kind of model returns it.
            weights: ``(B, I)`` how often each image counts.
            classes: those to compute, the others are NaN; None is all.
        """


@dataclass(frozen=True)
class BoxTruth:
    """Objects with boxes; the figure of a class is its box AP."""

    objects: Objects

    def images_by_class(self) -> list[np.ndarray]:
        """See :class:`Truth`."""
        return self.objects.images_by_class()

    def digest(self) -> str:
        """See :class:`Truth`."""
        return self.objects.digest()

    def class_figures(
        self, judged: Any, weights: np.ndarray, *, classes: Sequence[int] | None = None
    ) -> np.ndarray:
        """See :class:`Truth`.

        Args:
            judged: :class:`~lt_det.evaluation.analysis.matches.Matches`.
            weights: see there.
            classes: see there.
        """
        return class_aps(self.objects, judged, weights, classes=classes)


@dataclass(frozen=True)
class Predicted:
    """What a classifier says of each image.

    Attributes:
        classes: ``(I,)`` int32.
    """

    classes: np.ndarray


@dataclass(frozen=True)
class ImageTruth:
    """Images of one class each; the figure of a class is its accuracy.

    Attributes:
        labels: ``(I,)`` int64.
        num_classes: K.
    """

    labels: np.ndarray
    num_classes: int

    def images_by_class(self) -> list[np.ndarray]:
        """See :class:`Truth`."""
        return [np.flatnonzero(self.labels == k) for k in range(self.num_classes)]

    def digest(self) -> str:
        """See :class:`Truth`."""
        return hashlib.sha256(self.labels.astype(np.int64).tobytes()).hexdigest()

    def class_figures(
        self, judged: Predicted, weights: np.ndarray, *, classes: Sequence[int] | None = None
    ) -> np.ndarray:
        """See :class:`Truth`."""
        figures = np.full((len(weights), self.num_classes), np.nan)
        rows = np.argsort(self.labels, kind="stable")
        if classes is not None:
            rows = rows[np.isin(self.labels[rows], classes)]
        if not len(rows):
            return figures
        present, starts = np.unique(self.labels[rows], return_index=True)
        correct = judged.classes[rows] == self.labels[rows]
        step = max(_AT_ONCE // len(rows), 1)
        for begin in range(0, len(weights), step):
            part = weights[begin : begin + step, rows]
            total = np.add.reduceat(part, starts, axis=1)
            right = np.add.reduceat(part * correct, starts, axis=1)
            figures[begin : begin + step, present] = np.where(
                total > 0, 100.0 * right / np.maximum(total, 1.0), np.nan
            )
        return figures
