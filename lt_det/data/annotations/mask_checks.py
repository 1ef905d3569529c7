"""Checks of segmentations: which can be trained on, and what is wrong with the others."""

from __future__ import annotations

import math
from typing import Any

from lt_det.data.annotations.run_lengths import mask_has_runs

# Farthest coordinate of a polygon, in px: drawing one takes time and memory by its length.
_FARTHEST = 1e6

#: Return values of :func:`mask_problem` -> what to say of it.
MASK_PROBLEMS = {
    "nan": "has a coordinate that is no finite number",
    "far": "has a coordinate more than a million pixels away",
    "flat": "is a flat list [x0, y0, x1, y1, ...]; put it into a list of polygons: [[x0, y0, ...]]",
    "points": "is a list of points; write each polygon flat: [[x0, y0, x1, y1, ...]]",
    "malformed": "is neither a list of polygons [[x0, y0, x1, y1, ...]] nor run-length encoding "
    "{'size': [height, width], 'counts': ...}",
}


def mask_is_usable(segmentation: Any) -> bool:
    """Return False for polygons none of which has three points.

    Detectron2's COCO reader drops such an annotation. No segmentation at all is fine (boxes
    only), and so is run-length encoding.
    """
    if isinstance(segmentation, list) and segmentation:
        return any(map(polygon_is_valid, segmentation))
    return True


def polygon_is_valid(polygon: Any) -> bool:
    """Return whether a flat list ``x0, y0, x1, y1, ...`` has three finite points or more."""
    try:
        # The sum is finite if all numbers are, and a hundred million are summed in a second.
        return len(polygon) >= 6 and len(polygon) % 2 == 0 and math.isfinite(sum(polygon))
    except (TypeError, OverflowError):  # a number, or lists or text in place of numbers
        return False


def mask_problem(segmentation: Any) -> str | None:
    """Return the key in :data:`MASK_PROBLEMS` of a segmentation that is none; else None.

    None, an empty one, and polygons of fewer than three points are no problem: see
    :func:`mask_is_usable`.
    """
    if segmentation is None or segmentation == [] or segmentation == {}:
        return None
    if isinstance(segmentation, dict):
        return None if mask_has_runs(segmentation) else "malformed"
    if not isinstance(segmentation, list):
        return "malformed"
    try:
        for polygon in segmentation:
            if not math.isfinite(sum(polygon)):
                return "nan"
            if polygon and not -_FARTHEST <= min(polygon) <= max(polygon) <= _FARTHEST:
                return "far"
    except (TypeError, OverflowError):
        return _foreign_list(segmentation)
    lengths = set(map(len, segmentation))
    return "points" if lengths == {2} and len(segmentation) > 2 else None


def _foreign_list(segmentation: list) -> str:
    """Return what a list is whose members are no lists of numbers."""
    if all(isinstance(one, (int, float)) for one in segmentation):
        return "flat"
    members = [point for one in segmentation if isinstance(one, list) for point in one]
    if members and all(isinstance(point, list) and len(point) == 2 for point in members):
        return "points"
    if members and any(one is None for one in members):
        return "nan"
    return "malformed"
