"""Measure how each class is spread over the image plane: the fractal dimension of box centres.

Alexandridis et al., "Fractal Calibration for long-tailed object detection", arXiv:2410.11774,
with the grids of the release, kostas1515/FRACAL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lt_det.data.stats.class_stats import annotations_of

#: Sides of the grids are 1 to this.
LARGEST_GRID = 64
#: Of Detectron2's BoxMode.
_CORNERS, _CORNERS_RELATIVE, _RELATIVE = 0, 2, 3


def fractal_dimensions(centres: np.ndarray, classes: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Return ``(K,)`` float64 box-counting dimensions of the box centres, at least 1.

    The unit square is cut into g x g cells, g = 1 to 64 as far as ``g^2 <= n``, n objects of the
    class. The dimension is the least-squares slope of log(cells with a centre) on log g. It is 1
    for fewer than four objects, and where the slope is below 1; 2 is the whole plane. As in the
    release a cell does not have its right and lower edge, so that a centre at 1 is in no cell.

    Args:
        centres: ``(M, 2)`` x and y of each object's box, over width and height of its image.
        classes: ``(M,)`` class ids in 0..K-1.
        num_classes: K.

    Raises:
        ValueError: if the shapes do not fit, or a class id is out of range.
    """
    centres, classes = np.asarray(centres, np.float64), np.asarray(classes, np.int64)
    if centres.shape != (len(classes), 2):
        raise ValueError(f"centres must have shape ({len(classes)}, 2), got {centres.shape}")
    if classes.size and not 0 <= classes.min() <= classes.max() < num_classes:
        raise ValueError(
            f"classes must be in 0..{num_classes - 1}, got {classes.min()} to {classes.max()}"
        )
    counts = np.bincount(classes, minlength=num_classes)
    inside = ((centres >= 0) & (centres < 1)).all(axis=1)
    centres, classes = centres[inside], classes[inside]
    largest = min(LARGEST_GRID, int(np.sqrt(counts.max(initial=0))))
    # Sums of the regression over the grids of each class: 1, x, y, xx, xy.
    sums = np.zeros((5, num_classes))
    for side in range(1, largest + 1):
        cells = (centres * side).astype(np.int64)
        occupied = np.zeros(num_classes * side * side, dtype=bool)
        occupied[(classes * side + cells[:, 1]) * side + cells[:, 0]] = True
        found = occupied.reshape(num_classes, -1).sum(axis=1)
        used = (side * side <= counts) & (found > 0)
        x, y = np.full(num_classes, np.log(side)), np.log(np.maximum(found, 1))
        sums += np.where(used, np.stack([np.ones_like(x), x, y, x * x, x * y]), 0.0)
    number, x, y, xx, xy = sums
    spread = number * xx - x * x
    measured = (counts >= 4) & (spread > 0)
    slope = np.divide(number * xy - x * y, spread, out=np.ones(num_classes), where=measured)
    return np.maximum(slope, 1.0)


def box_centres(dataset_dicts: Iterable[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(M, 2)`` float64 relative centres and ``(M,)`` int64 classes of all boxes.

    Crowds are left out, as where classes are counted.

    Args:
        dataset_dicts: in Detectron2's format, with "height" and "width" of the images.

    Raises:
        ValueError: if an image has no size, or a box is missing or of an unknown mode.
    """
    centres: list[tuple[float, float]] = []
    classes: list[int] = []
    for record in dataset_dicts:
        for annotation in annotations_of(record):
            if annotation.get("iscrowd", 0):
                continue
            if "bbox" not in annotation or not (record.get("width") and record.get("height")):
                raise ValueError(
                    "fractal dimensions need 'width' and 'height' of each image and 'bbox' of each "
                    f"object, not so in image {record.get('image_id', record.get('file_name'))}"
                )
            centres.append(_centre(annotation, record))
            classes.append(int(annotation["category_id"]))
    return np.array(centres, np.float64).reshape(-1, 2), np.array(classes, np.int64)


def _centre(annotation: Mapping[str, Any], record: Mapping[str, Any]) -> tuple[float, float]:
    mode = int(annotation.get("bbox_mode", 1))
    if mode not in (_CORNERS, 1, _CORNERS_RELATIVE, _RELATIVE):
        raise ValueError(f"fractal dimensions are of upright boxes, got bbox_mode {mode}")
    x, y, third, fourth = (float(value) for value in annotation["bbox"])
    if mode in (_CORNERS, _CORNERS_RELATIVE):
        x, y = (x + third) / 2, (y + fourth) / 2
    else:
        x, y = x + third / 2, y + fourth / 2
    if mode in (_CORNERS_RELATIVE, _RELATIVE):
        return x, y
    return x / record["width"], y / record["height"]
