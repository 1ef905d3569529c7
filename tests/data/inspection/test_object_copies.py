"""Objects that are there twice, rounded to half a pixel, under one class or two."""

from __future__ import annotations

import pytest

from lt_det.data.inspection.object_copies import copy_findings

SAME, OTHER = "same-object-twice", "object-of-two-classes"


def kinds(box, *, apart=0.0, category=1, copied=20) -> dict[str, int]:
    """Return kind -> count for 20 objects, one an image, and copies of some."""
    annotations = [{"image_id": i, "category_id": 1, "bbox": box} for i in range(20)]
    near = [side + apart for side in box]
    annotations += [{"image_id": i, "category_id": category, "bbox": near} for i in range(20)][
        :copied
    ]
    return {one.kind: one.count for one in copy_findings("f", annotations)}


@pytest.mark.parametrize(
    ("box", "apart", "found"),
    [
        ([10, 10, 20, 20], 0.0, 20),
        ([10, 10, 20, 20], 0.01, 20),
        ([10, 10, 20, 20], -0.01, 20),
        ([10.125, 10.125, 20.125, 20.125], -0.01, 20),
        ([10.375, 10.375, 20.375, 20.375], 0.01, 20),
        ([10, 10, 20, 20], 1.0, 0),
        # Small objects, and fractions of an image, are equal or two.
        ([10, 10, 3, 3], 0.01, 0),
        ([0.1, 0.1, 0.2, 0.2], 0.01, 0),
        ([0.1, 0.1, 0.2, 0.2], 0.0, 20),
    ],
)
def test_copies_differ_by_rounding(box, apart, found):
    assert kinds(box, apart=apart) == ({SAME: found} if found else {})
    assert kinds(box, apart=apart, category=2) == ({OTHER: found} if found else {})


def test_a_few_objects_of_two_classes_are_no_trouble_and_boxes_may_be_none():
    assert kinds([10, 10, 20, 20], category=2, copied=2) == {}
    assert kinds([10, 10, 20, 20], copied=1) == {SAME: 1}
    none = [{"image_id": 1, "category_id": c, "bbox": box} for c, box in ((1, None), (2, "x"))]
    assert copy_findings("f", none) == []
