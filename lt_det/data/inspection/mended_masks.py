"""Masks written in another way than COCO's, put into it where nothing has to be guessed."""

from __future__ import annotations

import math
from typing import Any

from lt_det.data.annotations.mask_checks import mask_problem, polygon_is_valid


def nested(segmentation: Any) -> Any:
    """Return COCO's ``[[x0, y0, x1, y1, ...]]`` of a flat polygon or a list of points.

    What is something else, or is right already, comes back as it is.
    """
    problem = mask_problem(segmentation)
    if problem == "flat":
        return [segmentation] if polygon_is_valid(segmentation) else segmentation
    if problem != "points":
        return segmentation
    polygons = [segmentation] if _is_point(segmentation[0]) else segmentation
    flat = []
    for polygon in polygons:
        if polygon_is_valid(polygon) and not _is_point(polygon[0]):
            flat.append(polygon)
        elif isinstance(polygon, list) and all(map(_is_point, polygon)):
            flat.append([number for point in polygon for number in point])
        else:
            return segmentation
    return flat if any(map(polygon_is_valid, flat)) else segmentation


def can_be_nested(segmentation: Any) -> bool:
    """Return whether :func:`nested` makes a mask of it."""
    return mask_problem(nested(segmentation)) is None


def box_of_mask(segmentation: Any) -> list[float] | None:
    """Return ``[x, y, width, height]`` in px around polygons or run-length encoding, or None."""
    segmentation = nested(segmentation)
    if isinstance(segmentation, dict):
        return _box_of_rle(segmentation)
    if not isinstance(segmentation, list) or mask_problem(segmentation) is not None:
        return None
    polygons = [polygon for polygon in segmentation if polygon_is_valid(polygon)]
    if not polygons:
        return None
    xs = [x for polygon in polygons for x in polygon[0::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _is_point(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(n, (int, float)) and math.isfinite(n) for n in value)
    )


def _box_of_rle(segmentation: dict[str, Any]) -> list[float] | None:
    import pycocotools.mask as mask_utils  # needed for encoded masks without a box only

    try:
        if isinstance(segmentation["counts"], list):
            segmentation = mask_utils.frPyObjects(segmentation, *segmentation["size"])
        return [float(number) for number in mask_utils.toBbox(segmentation)]
    except Exception:  # pycocotools raises plain ones; what is wrong with it is said elsewhere
        return None
