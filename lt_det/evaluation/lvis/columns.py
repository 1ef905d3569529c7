"""Annotations of a ground truth as arrays.

Shape shorthand: M annotations, I images, K categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Columns:
    """Annotations, images and categories by their place among the rising ids.

    Attributes:
        image_ids: ``(I,)`` int64, rising.
        category_ids: ``(K,)`` int64, rising.
        images: ``(M,)`` int64 places, in the order of the annotations.
        classes: ``(M,)`` int64 places.
        boxes: ``(M, 4)`` float64 XYWH in px.
        areas: ``(M,)`` float64 px.
        ignored: ``(M,)`` bool, objects that need not be found.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    images: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    ignored: np.ndarray

    @classmethod
    def of(
        cls,
        images: Sequence[Mapping[str, Any]],
        annotations: Sequence[Mapping[str, Any]],
        category_ids: Sequence[int],
    ) -> Columns:
        """Return the arrays; ids are whole numbers that 64 bits hold, the categories' rising."""
        image_ids = np.sort(np.array([image["id"] for image in images], dtype=np.int64))
        categories = np.array(category_ids, dtype=np.int64)

        def column(key: str, dtype: type) -> np.ndarray:
            return np.array([annotation[key] for annotation in annotations], dtype=dtype)

        return cls(
            image_ids=image_ids,
            category_ids=categories,
            images=places_of(image_ids, column("image_id", np.int64)),
            classes=places_of(categories, column("category_id", np.int64)),
            boxes=column("bbox", np.float64).reshape(-1, 4),
            areas=column("area", np.float64),
            ignored=column("ignore", bool),
        )


def places_of(rising: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return ``(N,)`` int64 place of each id among the rising ids; all of them are there.

    Args:
        rising: ``(I,)`` int64.
        ids: ``(N,)`` int64.
    """
    count = len(rising)
    if not count or not 0 <= rising[0] <= rising[-1] < 8 * count + 1024:
        return np.searchsorted(rising, ids).astype(np.int64, copy=False)
    places = np.zeros(int(rising[-1]) + 1, dtype=np.int64)  # ids are small: a table is faster
    places[rising] = np.arange(count)
    return places[ids]


def occurring(ids: np.ndarray) -> np.ndarray:
    """Return the different ids, rising; without sorting if they are small, as category ids are."""
    if len(ids) and ids.min() >= 0 and ids.max() < len(ids):
        return np.flatnonzero(np.bincount(ids))
    return np.unique(ids)
