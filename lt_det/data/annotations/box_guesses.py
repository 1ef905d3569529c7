"""Guesses at what the boxes of a json were meant to be: corners, fractions, parts of 100 or 1000.

A few odd boxes among many hide nothing: what nearly all say is said, with a count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.annotations.mask_checks import polygon_is_valid
from lt_det.data.annotations.mask_places import PLACE, Bounds, bounds_of_polygons
from lt_det.data.annotations.naming import Doubt

# From so many boxes on what nearly all have in common is no chance; odd ones among them.
_FEWEST, _SHARE_ODD = 10, 0.1
# Share of the boxes that end outside their image, if their other numbers are the far corner.
_SHARE_OUTSIDE = 0.2
# A number is another if they differ by no more than this: px, and share of the larger.
_NEAR_PX, _NEAR_SHARE = 2.0, 0.02
# Boxes of one scale: so many, over this share of the scale, in images so many times larger.
_SURE, _SPREAD, _LARGER = 20, 0.3, 3.0


def meant_box(
    boxes: np.ndarray,
    sizes: np.ndarray,
    beyond: np.ndarray,
    slack: np.ndarray,
    annotations: Sequence[Mapping[str, Any]] | None,
) -> Doubt | None:
    """Return what makes the boxes unusable as they are, or None.

    Args:
        boxes: ``(M, 4)`` float64 x, y, width, height as they are read.
        sizes: ``(M, 2)`` float64 width and height of each one's image in px; nan if unknown.
        beyond: ``(M,)`` bool, whether a box ends outside its image.
        slack: ``(M, 2)`` px beyond the edge that are rounding.
        annotations: of the boxes; masks and areas say which corners are meant.
    """
    start, extent = boxes[:, :2], boxes[:, 2:]
    end = start + extent
    known = np.isfinite(sizes).all(axis=1)
    flat = (extent == 0).any(axis=1)
    tiny = ~flat & (boxes <= 1).all(axis=1) & (start >= 0).all(axis=1)
    large = ~flat & (~known | (sizes > 2).all(axis=1))
    if nearly_all(tiny[large]):
        rest = (large & ~tiny).sum()
        what = "no 'bbox' is larger than 1 pixel (fractions of the image?)"
        if rest:
            what = f"all 'bbox' but {rest} are within 1 pixel (fractions of the image?)"
        return _error("box-fractions", what, tiny, "write [x, y, width, height] in pixels")
    with np.errstate(invalid="ignore"):
        in_corners = known & ((extent >= start) & (extent <= sizes + slack)).all(axis=1)
    if known.sum() >= _FEWEST and nearly_all(in_corners[known]):
        fit = f"{in_corners.sum()} of {known.sum()} would fit as corners [x0, y0, x1, y1]"
        if beyond.sum() >= max(_SHARE_OUTSIDE * known.sum(), 1):
            what = "'bbox' ends outside its image"
            return _error("box-corners", what, beyond, f"{fit}: write [x, y, width, height]")
        if annotations is not None and (rows := _corner_rows(boxes, annotations)) is not None:
            what = "'bbox' is that of 'segmentation' or 'area' as corners [x0, y0, x1, y1]"
            return _error("box-corners", what, rows, "write [x, y, width, height]")
    for scale, name in ((100, "percent"), (1000, "parts of 1000")):
        within = (end <= 1.01 * scale).all(axis=1) & (start >= 0).all(axis=1)
        with np.errstate(invalid="ignore"):
            inside = known & (sizes >= _LARGER * scale).all(axis=1)
        if inside.sum() >= _SURE and nearly_all(within[inside]):
            rows = within & inside
            middle = (start + end)[rows] / 2
            if (np.ptp(middle, axis=0) >= _SPREAD * scale).all():
                what = f"'bbox' lies all over the first {scale} pixels of a larger image"
                advice = f"{name} of the image in place of pixels? Write pixels"
                return _error("box-percent" if scale == 100 else "box-scale", what, rows, advice)
    within = (end <= 1010).all(axis=1) & (start >= 0).all(axis=1)
    if (
        known.sum() >= _FEWEST
        and nearly_all(within[known])
        and beyond.sum() >= _SHARE_OUTSIDE * known.sum()
        and (np.max(end[known & within], axis=0) >= 900).all()
    ):
        what = "'bbox' ends outside its image, and few beyond pixel 1000"
        return _error("box-scale", what, beyond, "parts of 1000 of the image, or pixels of an "
                      "image that was larger? Write pixels of this image")  # fmt: skip
    return None


def _error(kind: str, what: str, rows: np.ndarray, advice: str) -> Doubt:
    return Doubt(kind, what, np.flatnonzero(rows), advice, show="bbox", is_error=True)


def nearly_all(hits: np.ndarray) -> bool:
    """Return whether all are hits, or of many all but a few; False of none."""
    odd = len(hits) - int(hits.sum())
    return len(hits) > 0 and odd <= (_SHARE_ODD * len(hits) if len(hits) >= _FEWEST else 0)


def _corner_rows(boxes: np.ndarray, annotations: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    """Return ``(M,)`` bool, the boxes that mask or area call corners, if these are nearly all."""
    meant = [_says_corners(box, one) for box, one in zip(boxes.tolist(), annotations)]
    said = np.array([one for one in meant if one is not None], dtype=bool)
    if len(said) < _FEWEST or not nearly_all(said):
        return None
    return np.array([one is True for one in meant])


def _says_corners(box: Sequence[float], annotation: Mapping[str, Any]) -> bool | None:
    """Return whether mask or area fit the box as corners; None if they fit neither or both."""
    x, y, right, bottom = box
    as_corners, as_sizes = (right, bottom), (x + right, y + bottom)
    bounds = _mask_bounds(annotation)
    if bounds is not None:
        fits = [all(map(_near, bounds[2:], other)) for other in (as_corners, as_sizes)]
    else:
        area = annotation.get("area")
        if isinstance(area, bool) or not isinstance(area, (int, float)) or not area > 0:
            return None
        fits = [_near(area, one) for one in ((right - x) * (bottom - y), right * bottom)]
    return fits[0] if fits[0] != fits[1] else None


def _mask_bounds(annotation: Mapping[str, Any]) -> Bounds | None:
    """Return what is around the polygons; of masks that were dropped, if they doubt their box."""
    place = annotation.get(PLACE)
    if isinstance(place, tuple):
        return place
    mask = annotation.get("segmentation")
    polygons = [one for one in mask if polygon_is_valid(one)] if isinstance(mask, list) else []
    return bounds_of_polygons(polygons) if polygons else None


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= max(_NEAR_PX, _NEAR_SHARE * max(abs(a), abs(b)))
