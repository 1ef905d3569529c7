"""Draw masks of annotations, and make annotations of masks."""

from __future__ import annotations

from typing import Any

import numpy as np


def mask_of(segmentation: Any, *, height: int, width: int) -> np.ndarray:
    """Return ``(height, width)`` bool, as Detectron2 draws it.

    Args:
        segmentation: polygons ``[[x0, y0, x1, y1, ...], ...]`` or run-length encoding.
        height: of the image, in pixels.
        width: of the image.

    Raises:
        ValueError: if a run-length encoding is of another size.
    """
    from pycocotools import mask  # needed where masks are pasted only

    if not isinstance(segmentation, dict):
        return mask.decode(mask.merge(mask.frPyObjects(segmentation, height, width))).astype(bool)
    if list(segmentation["size"]) != [height, width]:
        raise ValueError(
            f"a run-length encoded mask is of {list(segmentation['size'])} pixels, its image of "
            f"{[height, width]}"
        )
    if isinstance(segmentation["counts"], list):
        segmentation = mask.frPyObjects(segmentation, height, width)
    return mask.decode(segmentation).astype(bool)


def coded(mask: np.ndarray) -> dict[str, Any]:
    """Return the compressed run-length encoding of ``(H, W)`` bool."""
    from pycocotools import mask as coco_mask

    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def box_of(mask: np.ndarray) -> list[float]:
    """Return x0, y0, x1, y1 in pixels, the ends exclusive, of a mask with a pixel at least."""
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    x0, y0, x1, y1 = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return [float(x0), float(y0), float(x1), float(y1)]
