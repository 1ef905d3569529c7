"""Objects of one json that are there twice: under one class, or under two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.annotations.box_checks import box_array
from lt_det.data.annotations.checks import box_is_valid, is_crowd
from lt_det.data.inspection.findings import Finding, of_annotations

# Boxes that differ by less are one, in px; shorter sides must be equal.
_APART, _SHORTEST = 0.5, 4.0
# Share of objects under two classes from which on that is no chance.
_MANY = 0.1


def copy_findings(file: str, annotations: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Return which objects are there twice, with boxes that differ by rounding at most.

    Args:
        file: the json, for the findings.
        annotations: all of it.
    """
    boxes, is_box = box_array([one.get("bbox") for one in annotations], box_is_valid)
    large = is_box & (boxes[:, 2:] >= _SHORTEST).all(axis=1)
    classes = [one.get("category_id") for one in annotations]
    same, other = np.zeros((2, len(annotations)), dtype=bool)
    # Two grids: what is parted by an edge of one is in a cell of the other.
    for shift in (0.0, 0.5):
        cells = np.floor(boxes / _APART + 0.25 + shift)
        cells[~large] = boxes[~large]
        seen: dict[Any, set[Any]] = {}
        for row, (one, cell) in enumerate(zip(annotations, cells.tolist())):
            place = cell if is_box[row] else [str(one.get("bbox"))]
            found = seen.setdefault((one.get("image_id"), bool(large[row]), *place), set())
            same[row] |= classes[row] in found
            other[row] |= bool(found - {classes[row]}) and not is_crowd(one)
            found.add(classes[row])
    found_twice = of_annotations(
        file, annotations, same, harm="warning", kind="same-object-twice", show="bbox",
        what="same image, class and box as another, rounded to half a pixel",
        advice="exported or merged twice? Each is counted, and evaluated, as an object",
    )  # fmt: skip
    if other.sum() <= _MANY * len(annotations):
        return found_twice
    return found_twice + of_annotations(
        file, annotations, other, harm="warning", kind="object-of-two-classes", show="bbox",
        what="same image and box as another of another class",
        advice="two labels of one object? A detector has one class for a region, and each is "
        "evaluated: keep one",
    )  # fmt: skip
