"""Checks of all masks of a json against their boxes, and guesses at what wrong ones were meant as.

See :mod:`lt_det.data.annotations.mask_places` for what is no doubt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.annotations.crowds import is_crowd
from lt_det.data.annotations.mask_checks import polygon_is_valid
from lt_det.data.annotations.mask_places import (
    EMPTY,
    PLACE,
    SLACK,
    Bounds,
    bounds_of_polygons,
    is_box,
    is_within_a_pixel,
    judged,
    mask_place,
)
from lt_det.data.annotations.naming import Doubt

# Least overlap (IoU) of a mask that another reading of it, or of the box, explains.
_EXPLAINED = 0.7
# From so many masks on, of which this share contradict their boxes and nearly all are explained
# by the same reading, it is no chance.
_FEWEST, _SHARE, _NEARLY_ALL = 10, 0.5, 0.9


def mask_place_doubts(
    annotations: Sequence[Mapping[str, Any]], boxes: np.ndarray, sizes: np.ndarray
) -> list[Doubt]:
    """Return what contradicts between masks and boxes.

    Args:
        annotations: M of a json, each usable by itself.
        boxes: ``(M, 4)`` float64 x, y, width, height in px.
        sizes: ``(M, 2)`` float64 width and height of each one's image in px; nan if unknown.
    """
    places = _places(annotations)
    for row, one in enumerate(annotations):
        if places[row] is not None and is_crowd(one):
            places[row] = None
    masked = sum(place is not None for place in places)
    empty = np.array([row for row, place in enumerate(places) if place == EMPTY], dtype=np.int64)
    rows = np.array([r for r, place in enumerate(places) if isinstance(place, tuple)], np.int64)
    found = []
    if len(empty):
        found.append(
            Doubt(
                "mask-empty",
                "the mask has no area, but 'bbox' has one",
                empty,
                "a training of masks learns nothing from these, or drops them; the counts have "
                "them: draw them again, or remove them",
                show="bbox",
            )
        )
    if len(rows):
        found += _elsewhere(
            rows, np.array([places[r] for r in rows]), boxes[rows], sizes[rows], masked=masked
        )
    return found


def fraction_in_pixels(segmentation: Any, box: Any, size: Any) -> Any:
    """Return polygons that are fractions of the image in px, where those fit the box; else None.

    Args:
        segmentation: anything.
        box: anything.
        size: height and width of the image in px; None if unknown.
    """
    if size is None or not isinstance(segmentation, list) or not is_box(box):
        return None
    polygons = [polygon for polygon in segmentation if polygon_is_valid(polygon)]
    if not polygons or not is_within_a_pixel(bounds_of_polygons(polygons), box):
        return None
    sides = np.array([size[1], size[0]], dtype=np.float64)
    bounds = np.array([bounds_of_polygons(polygons)]) * np.tile(sides, 2)
    if not _overlap(bounds, _corners(np.array([box], dtype=np.float64)))[0] >= _EXPLAINED:
        return None
    return [[v * sides[i % 2].item() for i, v in enumerate(polygon)] for polygon in segmentation]


def _elsewhere(
    rows: np.ndarray, masks: np.ndarray, boxes: np.ndarray, sizes: np.ndarray, *, masked: int
) -> list[Doubt]:
    fraction = np.array([is_within_a_pixel(mask, box) for mask, box in zip(masks, boxes)])
    fraction &= ~(sizes <= 2).any(axis=1)
    if fraction.any():
        every = fraction.sum() == masked
        return [
            Doubt(
                "mask-fractions",
                "no polygon is larger than 1 pixel, but the boxes are (fractions of the image?)"
                if every
                else "the polygons are within a pixel, the box is not (fractions of the image?)",
                rows[fraction],
                "write polygons in pixels",
                show="bbox",
                is_error=bool(every),
            ),
            *(_elsewhere_in_pixels(rows[~fraction], masks[~fraction], boxes[~fraction],
                                   sizes[~fraction], masked=masked)),
        ]  # fmt: skip
    return _elsewhere_in_pixels(rows, masks, boxes, sizes, masked=masked)


def _elsewhere_in_pixels(
    rows: np.ndarray, masks: np.ndarray, boxes: np.ndarray, sizes: np.ndarray, *, masked: int
) -> list[Doubt]:
    if not len(rows):
        return []
    reading = _reading(masks, boxes, sizes)
    many = len(rows) >= _FEWEST and len(rows) >= _SHARE * masked
    kind, what, advice = reading or (
        "mask-elsewhere",
        "mask and 'bbox' are at different places or of very different sizes",
        "one of the two is wrong: a training of masks learns from what is not the object",
    )
    return [Doubt(kind, what, rows, advice, show="bbox", misleads=many and reading is not None)]


def _reading(
    masks: np.ndarray, boxes: np.ndarray, sizes: np.ndarray
) -> tuple[str, str, str] | None:
    """Return kind, words and advice of the reading that explains nearly all of the rows."""
    corners = _corners(boxes)
    wide = np.tile(sizes, 2)
    extent = np.maximum(masks[:, 2:] - masks[:, :2], 1e-9)
    scale = np.tile(np.median(boxes[:, 2:] / extent, axis=0), 2)
    half = boxes[:, 2:] / 2
    whole = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
    readings = (
        ("mask-inverted", masks, whole, "the mask covers the whole image", "is it what is not the "
         "object, or a list of runs that begins with the mask in place of what is before it?"),
        ("mask-percent", masks * wide / 100, corners, "the mask is percent of the image",
         "write polygons in pixels"),
        ("mask-swapped", masks[:, [1, 0, 3, 2]], corners, "the mask has x and y swapped",
         "write x before y, and of encoded masks height before width"),
        ("mask-in-box", masks + np.tile(boxes[:, :2], 2), corners, "the mask starts from the "
         "corner of its box, not of the image", "add x and y of the box"),
        ("box-corners-by-mask", masks, np.concatenate([boxes[:, :2], boxes[:, 2:]], axis=1),
         "'bbox' are the corners of the mask", "write [x, y, width, height]"),
        ("box-centre-by-mask", masks, np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], 1),
         "'bbox' starts from the centre of the mask", "write the upper left corner"),
        ("mask-scaled", masks * scale, corners, f"the mask is {1 / scale[0]:.3g} times as wide and "
         f"{1 / scale[1]:.3g} times as high as its box, as of an image of another size",
         "write both in pixels of the same image"),
    )  # fmt: skip
    for kind, mask, box, what, advice in readings:
        if (_overlap(mask, box) >= _EXPLAINED).mean() >= _NEARLY_ALL:
            return kind, what, advice
    return None


def _places(annotations: Sequence[Mapping[str, Any]]) -> list[Bounds | str | None]:
    """Return what :func:`mask_place` says of each, compressed masks among them."""
    places: list[Bounds | str | None] = []
    coded = []
    for row, one in enumerate(annotations):
        mask, box = one.get("segmentation"), one.get("bbox")
        if isinstance(mask, dict) and mask and not isinstance(mask.get("counts"), list):
            coded.append(row)
            places.append(None)
        else:
            places.append(one[PLACE] if PLACE in one else mask_place(mask, box))
    if coded:
        import pycocotools.mask as mask_utils  # needed for encoded masks only

        for row, (x, y, width, height) in zip(
            coded, mask_utils.toBbox([annotations[row]["segmentation"] for row in coded]).tolist()
        ):
            own: Any = annotations[row].get("bbox")
            if is_box(own):
                is_empty = width == 0 or height == 0
                places[row] = judged(None if is_empty else (x, y, x + width, y + height), own)
    return places


def _corners(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return ``(N,)`` IoU of N pairs of ``x0, y0, x1, y1``, edges moved out by the slack."""
    moved = np.array([-SLACK, -SLACK, SLACK, SLACK])
    one, other = one + moved, other + moved
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    both = np.maximum(sides, 0).prod(axis=1)
    areas = [np.maximum(a[:, 2:] - a[:, :2], 0).prod(axis=1) for a in (one, other)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(both / (areas[0] + areas[1] - both))
