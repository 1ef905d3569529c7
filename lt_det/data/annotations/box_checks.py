"""Checks of all boxes of a json, and guesses at what wrong ones were meant to be.

Functions over arrays, so that a million boxes take a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lt_det.data.annotations.naming import Doubt

#: Largest number of a box: whole numbers up to it are exact, and fit in 64 bits.
FARTHEST = 2**53
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
        return array, (np.abs(array) <= FARTHEST).all(axis=1) & (array[:, 2:] >= 0).all(axis=1)
    valid = np.fromiter(map(is_valid, boxes), dtype=bool, count=len(boxes))
    array = np.zeros((len(boxes), 4))
    for index in np.flatnonzero(valid):
        array[index] = boxes[index]
    return array, valid


def box_findings(boxes: np.ndarray, sizes: np.ndarray) -> list[Doubt]:
    """Return what makes the boxes unusable, else what is to be warned of.

    Args:
        boxes: ``(M, 4)`` float64 x, y, width, height; finite, no negative size.
        sizes: ``(M, 2)`` float64 width and height of each one's image in px; nan if unknown.
    """
    if not len(boxes):
        return []
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

    def doubt(kind: str, what: str, rows: np.ndarray, advice: str, error: bool = False) -> Doubt:
        return Doubt(kind, what, np.flatnonzero(rows), advice, show="bbox", is_error=error)

    if (tiny & large).sum() == (large & ~flat).sum() > 0:
        what = "no 'bbox' is larger than 1 pixel (fractions of the image?)"
        return [doubt("box-fractions", what, tiny, "write [x, y, width, height] in pixels", True)]
    if (
        len(boxes) >= _FEWEST
        and in_corners[known].all()
        and beyond.sum() >= max(_SHARE_OUTSIDE * known.sum(), 1)
    ):
        advice = (
            f"all {known.sum()} would fit as corners [x0, y0, x1, y1]: write [x, y, width, height]"
        )
        return [doubt("box-corners", "'bbox' ends outside its image", beyond, advice, True)]
    wide = known & (sizes >= 200).all(axis=1)
    percent = wide.sum() >= _FEWEST and (end[wide] <= 101).all() and (end[wide] > 50).any()
    found = [
        doubt(
            "box-outside",
            "'bbox' reaches outside its image",
            beyond,
            "training cuts such boxes at the edge. Are they [x, y, width, height] in pixels of "
            "this image?",
        ),
        doubt(
            "box-apart",
            "'bbox' lies wholly outside its image",
            apart,
            "training drops these, the counts and the evaluation do not",
        ),
        doubt(
            "box-flat",
            "'bbox' has no width or no height",
            flat,
            "training drops these, the counts do not",
        ),
        doubt(
            "box-tiny",
            "'bbox' is within one pixel",
            tiny,
            "fractions of the image in place of pixels?",
        ),
        doubt(
            "box-percent",
            "no 'bbox' reaches beyond pixel 100, though the images are larger,",
            wide if percent else np.zeros_like(wide),
            "percent of the image in place of pixels?",
        ),
    ]
    return [one for one in found if len(one.rows)]
