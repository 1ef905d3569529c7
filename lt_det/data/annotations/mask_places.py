"""Place of a mask against that of its box: none, fine, or elsewhere.

What may be is no doubt: a mask within its box (an object that is partly hidden), a box within a
mask that is not far larger, crowds, and edges that differ by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul
from typing import Any

from lt_det.data.annotations.mask_checks import polygon_is_valid
from lt_det.data.annotations.run_lengths import sum_of_runs

#: Key that a reader which drops masks leaves in their place, with what :func:`mask_place` says.
PLACE = "lt_det: place of the mask"
#: The same for its area in px, where the file's may be far below it.
AREA = "lt_det: area of the mask"
#: An area so many times below that of its mask, or of a box without a mask, is no hidden object.
FAR_BELOW = 10.0
#: Return values of :func:`mask_place`.
FINE, EMPTY = "fine", "empty"

#: Edges may differ by this, in px.
SLACK = 2.0
# Least share of the smaller of box and mask that the other covers.
_COVERED = 0.5
# A mask around its box (of a whole object, where the box is of what is seen) is larger by no more.
_LARGER = 9.0
_MOST_PIXELS = 2**53
# Most numbers of a polygon that is looked at for being a line.
_LONGEST_LINE = 12

Bounds = tuple[float, float, float, float]


def mask_place(segmentation: Any, box: Any) -> Bounds | str | None:
    """Return whether polygons or a list of run lengths can be the mask of a box.

    Args:
        segmentation: one that is a mask; a compressed one is not looked into.
        box: x, y, width, height in px; anything.

    Returns:
        None if there is nothing to compare; FINE; EMPTY for a mask without area in a box that has
        one; else the ``(x0, y0, x1, y1)`` of the mask in px.
    """
    if not segmentation or not is_box(box):
        return None
    if isinstance(segmentation, dict):
        # Compressed runs are -1 here, too; broken ones are another finding.
        if not 0 <= sum_of_runs(segmentation.get("counts")) <= _MOST_PIXELS:
            return None
        bounds = bounds_of_runs(segmentation["counts"], segmentation["size"][0])
    else:
        polygons = [polygon for polygon in segmentation if polygon_is_valid(polygon)]
        if not polygons:
            return None
        bounds = None if all(map(_is_line, polygons)) else bounds_of_polygons(polygons)
    return judged(bounds, box)


def judged(bounds: Bounds | None, box: Sequence[float]) -> Bounds | str | None:
    """Return :func:`mask_place` of a mask whose bounds are known, None for one without area."""
    x, y, width, height = box
    if bounds is None:
        return EMPTY if min(width, height) > SLACK else FINE
    x0, y0, x1, y1 = bounds
    across = max(0.0, min(x1, x + width) - max(x0, x) + 2 * SLACK)
    down = max(0.0, min(y1, y + height) - max(y0, y) + 2 * SLACK)
    of_mask = (x1 - x0 + 2 * SLACK) * (y1 - y0 + 2 * SLACK)
    of_box = (width + 2 * SLACK) * (height + 2 * SLACK)
    if (
        across * down < _COVERED * min(of_mask, of_box)
        or of_mask > _LARGER * of_box
        or is_within_a_pixel(bounds, box)
        or _are_corners(bounds, box)
    ):
        return bounds
    return FINE


def bounds_of_runs(counts: Sequence[int], height: int) -> Bounds | None:
    """Return ``(x0, y0, x1, y1)`` in px of runs by column, of which every second one is mask."""
    first = last = None
    top, bottom, start = height, 0, 0
    for index, run in enumerate(counts):
        if index % 2 and run > 0:
            end = start + run - 1
            first = start if first is None else first
            last = end
            if start // height < end // height:
                top, bottom = 0, height
            else:
                top, bottom = min(top, start % height), max(bottom, end % height + 1)
        start += run
    if first is None or last is None:
        return None
    return (first // height, top, last // height + 1, bottom)


def is_box(box: Any) -> bool:
    """Return whether a value is x, y, width, height with an area."""
    try:
        x, y, width, height = box
        return bool(width > 0 and height > 0 and math.isfinite(x + y + width + height))
    except (TypeError, ValueError, OverflowError):  # of another length, None, or text in it
        return False


def bounds_of_polygons(polygons: Sequence[Sequence[float]]) -> Bounds:
    """Return ``(x0, y0, x1, y1)`` of valid polygons."""
    if len(polygons) == 1:  # most are one
        xs, ys = polygons[0][0::2], polygons[0][1::2]
    else:
        xs = [x for polygon in polygons for x in polygon[0::2]]
        ys = [y for polygon in polygons for y in polygon[1::2]]
    return (min(xs), min(ys), max(xs), max(ys))


def area_of_mask(segmentation: Any) -> float | None:
    """Return the area of a mask in px, of polygons the sum; None where there is none.

    That of compressed runs, which would be decoded, is 0.
    """
    if isinstance(segmentation, dict) and segmentation:
        counts = segmentation.get("counts")
        is_list = isinstance(counts, list) and 0 <= sum_of_runs(counts) <= _MOST_PIXELS
        return float(sum(counts[1::2])) if is_list and counts is not None else 0.0
    if not isinstance(segmentation, list):
        return None
    polygons = [polygon for polygon in segmentation if polygon_is_valid(polygon)]
    return sum(abs(_twice_area(one)) for one in polygons) / 2 if polygons else None


def is_far_below(area: Any, box: Any) -> bool:
    """Return whether the file's area is so small for a box that it may be far below the mask's."""
    try:
        return is_box(box) and float(area) > 0 and FAR_BELOW * float(area) + 10 < box[2] * box[3]
    except (TypeError, ValueError, OverflowError):
        return False


def _twice_area(polygon: Sequence[float]) -> float:
    """Return twice the area of a polygon, negative for one of the two ways around it."""
    xs, ys = polygon[0::2], polygon[1::2]
    turns = sum(map(mul, xs, ys[1:])) - sum(map(mul, xs[1:], ys))
    return float(turns + xs[-1] * ys[0] - xs[0] * ys[-1])


def _is_line(polygon: Sequence[float]) -> bool:
    """Return whether all points, up to six, lie on one line."""
    if len(polygon) > _LONGEST_LINE:
        return False  # drawn, not written
    xs, ys = polygon[0::2], polygon[1::2]
    # 0 of a line, and of a figure of eight.
    if abs(_twice_area(polygon)) > 1e-6 * (max(map(abs, xs)) + max(map(abs, ys)) + 1):
        return False
    x, y = xs[0], ys[0]
    far, dx, dy = max((math.hypot(a - x, b - y), a - x, b - y) for a, b in zip(xs, ys))
    return far == 0 or all(
        abs((a - x) * dy - (b - y) * dx) <= 1e-3 * far * min(far, 1) for a, b in zip(xs, ys)
    )


def is_within_a_pixel(mask: Sequence[float], box: Sequence[float]) -> bool:
    """Return whether a mask is in the first pixel of the image, and its box is larger than that."""
    return min(mask[0], mask[1]) >= 0 and max(mask[2], mask[3]) <= 1 and max(box[2:]) > 2 * SLACK


def _are_corners(mask: Sequence[float], box: Sequence[float]) -> bool:
    """Return whether a box has the mask's corners, and is not what is around the mask."""
    return all(abs(a - b) <= SLACK for a, b in zip(mask, box)) and max(box[0], box[1]) > 2 * SLACK
