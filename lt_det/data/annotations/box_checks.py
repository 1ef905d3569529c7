"""Checks of all boxes of a json.

Functions over arrays, so that a million boxes take a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.annotations.box_guesses import meant_box, nearly_all
from lt_det.data.annotations.naming import Doubt

#: Largest number of a box: whole numbers up to it are exact, and fit in 64 bits.
FARTHEST = 2**53
# Boxes beyond the edge by no more than this are rounding: px, and share of the image's side.
_EDGE_PX, _EDGE_SHARE = 1.0, 0.01
# From so many boxes on it is no chance that none goes beyond pixel 100.
_FEWEST = 10


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


def box_findings(
    boxes: np.ndarray,
    sizes: np.ndarray,
    annotations: Sequence[Mapping[str, Any]] | None = None,
) -> list[Doubt]:
    """Return what makes the boxes unusable, else what is to be warned of.

    Args:
        boxes: ``(M, 4)`` float64 x, y, width, height; finite, no negative size.
        sizes: ``(M, 2)`` float64 width and height of each one's image in px; nan if unknown.
        annotations: of the boxes, valid ones; what is known of the boxes elsewhere.
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
    flat = (extent == 0).any(axis=1)
    tiny = ~flat & (boxes <= 1).all(axis=1) & (start >= 0).all(axis=1)
    meant = meant_box(boxes, sizes, beyond, slack, annotations)
    if meant is not None:
        return [meant]

    def doubt(kind: str, what: str, rows: np.ndarray, advice: str) -> Doubt:
        return Doubt(kind, what, np.flatnonzero(rows), advice, show="bbox")

    wide = known & (sizes >= 200).all(axis=1)
    within = (end <= 101).all(axis=1)
    percent = wide.sum() >= _FEWEST and nearly_all(within[wide]) and (end[wide] > 50).any()
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
            "'bbox' does not reach beyond pixel 100, though the image is larger,",
            wide & within if percent else np.zeros_like(wide),
            "percent of the image in place of pixels?",
        ),
    ]
    return [one for one in found if len(one.rows)]
