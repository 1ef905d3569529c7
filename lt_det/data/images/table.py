"""Table of labelled images: every reader returns one, and records are made from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ImageTable:
    """N labelled images of K classes.

    Attributes:
        name: data set, for messages.
        labels: ``(N,)`` int64 in ``[0, K)``.
        class_names: K names.
        image_of: index -> ``{"file_name": path}`` or ``{"image": (H, W, 3) uint8 RGB array}``.

    Raises:
        ValueError: if there is no image, or a label is out of range.
    """

    name: str
    labels: np.ndarray
    class_names: tuple[str, ...]
    image_of: Callable[[int], dict[str, Any]]

    def __post_init__(self) -> None:
        if not len(self.labels):
            raise ValueError(f"data set {self.name!r} holds no image")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.class_names):
            raise ValueError(
                f"data set {self.name!r}: labels must be in 0..{len(self.class_names) - 1}, as "
                f"there are {len(self.class_names)} classes; got {low} to {high}"
            )

    def records(self, indices: Sequence[int] | np.ndarray | None = None) -> list[dict[str, Any]]:
        """Return records for Detectron2: "image_id", "category_id", and "file_name" or "image".

        Args:
            indices: of the images, None for all. They are the image ids, so a subset keeps those
                of the whole.
        """
        chosen = range(len(self.labels)) if indices is None else indices
        return [
            {"image_id": int(i), "category_id": int(self.labels[i]), **self.image_of(int(i))}
            for i in chosen
        ]
