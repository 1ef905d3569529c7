"""Areas of annotations: the file's if valid, else the mask's, else the box's.

Export tools write 0, NaN or nothing. The metrics read such an object as one that is not there
(LVIS) or as a small one (COCO), so that perfect predictions would not get 100.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.annotations.box_checks import FARTHEST
from lt_det.data.annotations.checks import box_is_valid
from lt_det.data.annotations.mask_checks import polygon_is_valid
from lt_det.data.annotations.naming import named
from lt_det.data.annotations.schema import has_size
from lt_det.data.warn_once import warn_of

# Boxes from so many px on are no object of less than a pixel.
_PIXELS = 4.0


def areas_of(
    annotations: Sequence[Mapping[str, Any]],
    sizes: Mapping[Any, tuple[int, int]],
    *,
    name: str,
) -> np.ndarray:
    """Return ``(M,)`` float64 areas in px; one warning says how many were not the file's.

    Args:
        annotations: of a COCO- or LVIS-format json; each with ``image_id`` and ``bbox``.
        sizes: image id -> height and width in px, for masks.
        name: data set, for the warning.

    Returns:
        The file's ``area`` where it is a positive number, no more than the image's pixels, and
        not all are fractions; else the mask's, else the box's; 0 for an object without any.
    """
    areas, findings = checked_areas(annotations, sizes)
    warn_of(findings, name=name)
    return areas


def checked_areas(
    annotations: Sequence[Mapping[str, Any]], sizes: Mapping[Any, tuple[int, int]]
) -> tuple[np.ndarray, list[str]]:
    """Return the areas of :func:`areas_of`, and what that would warn of, without warning."""
    areas, mended = mended_areas(annotations, sizes)
    return areas, _finding(annotations, mended)


def check_areas(
    annotations: Sequence[Mapping[str, Any]], sizes: Mapping[Any, tuple[int, int]]
) -> list[str]:
    """Return what :func:`areas_of` would warn of, without warning."""
    return checked_areas(annotations, sizes)[1]


def image_sizes(images: Sequence[Mapping[str, Any]]) -> dict[Any, tuple[int, int]]:
    """Return image id -> height and width in px, of the images of a json that have both.

    One without an id, which no annotation means, is refused elsewhere.
    """
    return {
        i.get("id"): (i["height"], i["width"]) for i in images if i.get("height") and i.get("width")
    }


def mended_areas(
    annotations: Sequence[Mapping[str, Any]], sizes: Mapping[Any, tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the areas of :func:`areas_of`, and the indices of those that are not the file's."""
    areas = np.array([_number(one.get("area")) for one in annotations], dtype=np.float64)
    unusable = np.flatnonzero(~(areas > 0) | (areas > _largest(annotations, sizes)))
    positive = areas[areas > 0]
    if len(positive) and positive.max() < 1:
        # Fractions of the image, where the boxes are not.
        large = [_box_area(one.get("bbox")) > _PIXELS for one in annotations]
        unusable = np.union1d(unusable, np.flatnonzero(large))
    for index in unusable:
        one = annotations[index]
        size = sizes.get(one.get("image_id"))
        areas[index] = _mask_area(one.get("segmentation"), size) or _box_area(one.get("bbox"))
    return areas, unusable[areas[unusable] > 0]


def _finding(annotations: Sequence[Mapping[str, Any]], mended: np.ndarray) -> list[str]:
    if not len(mended):
        return []
    return [
        "'area' is missing or no positive number in px that the image holds, though box or mask "
        "are not empty, in "
        f"{named(annotations, mended, show='area')}; the evaluation takes the area of the mask, "
        "else of the box"
    ]


def _largest(
    annotations: Sequence[Mapping[str, Any]], sizes: Mapping[Any, tuple[int, int]]
) -> np.ndarray:
    """Return ``(M,)`` float64 areas of the images of annotations; 2**53 of unknown ones."""
    pixels = {
        image: height * width if has_size({"height": height, "width": width}) else FARTHEST
        for image, (height, width) in sizes.items()
    }
    found = [pixels.get(one.get("image_id"), FARTHEST) for one in annotations]
    return np.array(found, dtype=np.float64)


def area_is_text(area: Any) -> bool:
    """Return whether an annotation's ``area`` is a text that is a positive, finite number."""
    return isinstance(area, str) and area_is_usable(area)


def area_of(annotation: Mapping[str, Any]) -> float:
    """Return the ``area`` of an annotation as a number, nan of what is none."""
    return _number(annotation.get("area"))


def area_is_usable(area: Any) -> bool:
    """Return whether an annotation's ``area`` is a positive, finite number."""
    number = _number(area)
    return number > 0 and math.isfinite(number)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _box_area(bbox: Any) -> float:
    return float(bbox[2]) * float(bbox[3]) if box_is_valid(bbox) else 0.0


def _mask_area(segmentation: Any, size: tuple[int, int] | None) -> float:
    """Return the area of a mask in px; 0 where there is none that can be read."""
    if not segmentation or not isinstance(segmentation, (list, dict)):
        return 0.0
    import pycocotools.mask as mask_utils  # needed for masks without an area only

    try:
        if isinstance(segmentation, list):
            polygons = [polygon for polygon in segmentation if polygon_is_valid(polygon)]
            if not polygons or size is None:
                return 0.0
            segmentation = mask_utils.merge(mask_utils.frPyObjects(polygons, *size))
        elif isinstance(segmentation["counts"], list):
            segmentation = mask_utils.frPyObjects(segmentation, *segmentation["size"])
        return float(mask_utils.area(segmentation))
    except Exception:  # pycocotools raises plain ones; what is wrong with it is said elsewhere
        return 0.0
