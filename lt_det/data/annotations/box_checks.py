"""Checks of all boxes of a json, and guesses at what wrong ones were meant to be.

Functions over arrays, so that a million boxes take a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.annotations.naming import named

# Boxes beyond the edge by no more than this are rounding: px, and share of the image's side.
_EDGE_PX, _EDGE_SHARE = 1.0, 0.01
# From so many boxes on, of which this share ends outside, all in the order of corners is no chance.
_FEWEST, _SHARE_OUTSIDE = 10, 0.2


def box_array(boxes: Sequence[Any], is_valid: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(M, 4)`` float64 boxes and ``(M,)`` bool whether each is one.

    Args:
        boxes: as the json has them; anything.
        is_valid: one of them -> whether it is four finite numbers without a negative size.
    """
    try:
        table = np.array(boxes)
    except ValueError:  # of several lengths
        table = np.empty(0, dtype=object)
    if table.shape == (len(boxes), 4) and table.dtype.kind in "iuf":
        array = table.astype(np.float64)
        return array, np.isfinite(array).all(axis=1) & (array[:, 2:] >= 0).all(axis=1)
    valid = np.fromiter(map(is_valid, boxes), dtype=bool, count=len(boxes))
    array = np.zeros((len(boxes), 4))
    for index in np.flatnonzero(valid):
        array[index] = boxes[index]
    return array, valid


def box_findings(
    annotations: Sequence[Mapping[str, Any]], boxes: np.ndarray, sizes: np.ndarray
) -> tuple[list[str], list[str]]:
    """Return what makes the boxes unusable, and what is to be warned of; texts.

    Args:
        annotations: M of the json, for their ids.
        boxes: ``(M, 4)`` float64 x, y, width, height; finite, no negative size.
        sizes: ``(M, 2)`` float64 width and height of each one's image in px; nan if unknown.
    """
    if not len(boxes):
        return [], []
    start, extent = boxes[:, :2], boxes[:, 2:]
    end = start + extent
    known = np.isfinite(sizes).all(axis=1)
    slack = np.maximum(_EDGE_PX, _EDGE_SHARE * sizes)
    with np.errstate(invalid="ignore"):
        beyond = known & ((end > sizes + slack) | (start < -slack)).any(axis=1)
        apart = beyond & ((start >= sizes) | (end <= 0)).any(axis=1)
        in_corners = (extent >= start).all(axis=1) & (extent <= sizes + slack).all(axis=1)
    flat = (extent == 0).any(axis=1)
    tiny = ~flat & (boxes <= 1).all(axis=1) & (start >= 0).all(axis=1)
    large = ~known | (sizes > 2).all(axis=1)

    def text(rows: np.ndarray) -> str:
        return named(annotations, rows, show="bbox")

    if (tiny & large).sum() == (large & ~flat).sum() > 0:
        return [
            f"no 'bbox' is larger than 1 pixel: fractions of the image? {text(tiny)}; write [x, y, "
            "width, height] in pixels"
        ], []
    if (
        len(boxes) >= _FEWEST
        and in_corners[known].all()
        and beyond.sum() >= max(_SHARE_OUTSIDE * known.sum(), 1)
    ):
        return [
            f"'bbox' ends outside its image in {text(beyond)}, and all {known.sum()} would fit "
            "as corners [x0, y0, x1, y1]: write [x, y, width, height]"
        ], []
    warnings = []
    if beyond.any():
        warnings.append(
            f"'bbox' reaches outside its image in {text(beyond)}; training cuts such boxes at the "
            "edge. Are they [x, y, width, height] in pixels of this image?"
        )
    if apart.any():
        warnings.append(
            f"'bbox' lies wholly outside its image in {text(apart)}; training drops these, the "
            "counts and the evaluation do not"
        )
    if flat.any():
        warnings.append(
            f"'bbox' has no width or no height in {text(flat)}; training drops these, the counts "
            "do not"
        )
    if tiny.any():
        warnings.append(
            f"'bbox' is within one pixel in {text(tiny)}; fractions of the image in place of "
            "pixels?"
        )
    wide = known & (sizes >= 200).all(axis=1)
    if wide.sum() >= _FEWEST and (end[wide] <= 101).all() and (end[wide] > 50).any():
        warnings.append(
            f"no 'bbox' of the {wide.sum()} in images of 200 pixels and more reaches beyond pixel "
            "100: percent of the image in place of pixels?"
        )
    return [], warnings
