"""Areas of annotations: the file's if valid, else the mask's, else the box's.

Export tools write 0, NaN or nothing. The metrics read such an object as one that is not there
(LVIS) or as a small one (COCO), so that perfect predictions would not get 100.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.annotations.box_checks import FARTHEST, box_array
from lt_det.data.annotations.checks import box_is_valid, is_crowd
from lt_det.data.annotations.mask_checks import polygon_is_valid
from lt_det.data.annotations.mask_places import AREA, FAR_BELOW, area_of_mask
from lt_det.data.annotations.naming import Doubt, named
from lt_det.data.annotations.schema import has_size
from lt_det.data.warn_once import warn_of

# Boxes from so many px on are no object of less than a pixel.
_PIXELS = 4.0
# Share of annotations from which on they are doubted: few are slips of the hand.
_MANY_MASKS, _MANY_BOXES = 0.1, 0.5


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
    """Return what :func:`areas_of` would warn of and :func:`area_doubts`, without warning."""
    _, mended = mended_areas(annotations, sizes)
    doubts = area_doubts(annotations, mended)
    return _finding(annotations, mended) + [doubt.text(annotations) for doubt in doubts]


def area_doubts(annotations: Sequence[Mapping[str, Any]], mended: np.ndarray) -> list[Doubt]:
    """Return the areas far above those of boxes or far below those of masks, where many are.

    Args:
        annotations: of a json; where masks were dropped, with what is left in their place.
        mended: indices of those whose area is not the file's.
    """
    boxes, is_box = box_array([one.get("bbox") for one in annotations], box_is_valid)
    areas = np.array([area_of(one) for one in annotations], dtype=np.float64)
    in_box = boxes[:, 2] * boxes[:, 3]
    is_box &= np.array([not is_crowd(one) for one in annotations], dtype=bool)
    is_box[mended] = False
    wide = np.flatnonzero(is_box & (areas > 2 * in_box + 10))
    far_below, of_masks = [], 0
    # A mask is within its box: few need a look.
    below = np.flatnonzero(is_box & (areas > 0) & (FAR_BELOW * areas + 10 < in_box))
    if len(below) > _MANY_MASKS * len(annotations):
        for row in below.tolist():
            one = annotations[row]
            mask = one.get(AREA, area_of_mask(one.get("segmentation")))
            if mask is None or mask > FAR_BELOW * areas[row]:
                far_below.append(row)
                of_masks += mask is not None
    total = len(annotations)
    many = of_masks > _MANY_MASKS * total or len(far_below) > _MANY_BOXES * total
    end = "in another unit, or of an image of another size? AP by size is then wrong"
    return [
        Doubt(kind, what, rows, end, show="area")
        for kind, what, rows, is_said in (
            ("area-larger-than-box", "'area' is more than twice that of the box", wide,
             len(wide) > _MANY_BOXES * total),
            ("area-far-below-mask", "'area' is less than a tenth of that of the mask, or of "
             "a box without one", np.array(far_below, dtype=np.int64), many),
        )
        if is_said
    ]  # fmt: skip


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
