"""Boxes that were meant to be something else: a few odd ones among them hide nothing."""

from __future__ import annotations

import numpy as np
import pytest

from lt_det.data.annotations.checks import check_annotations
from tests.data.annotations.test_annotation_checks import boxes_set, corners_of, good_boxes

ODD = [60, 50, 20, 15]  # as corners it would have a negative size


def refused(content) -> str:
    with pytest.raises(ValueError, match="'x'") as caught:
        check_annotations(content, name="x")
    return str(caught.value)


def scaled(x: float, y: float, boxes=None) -> list[list[float]]:
    boxes = good_boxes() if boxes is None else boxes
    return (np.array(boxes) / [100, 80, 100, 80] * [x, y, x, y]).tolist()


def masked(boxes: list, meant: list, **size) -> dict:
    content = boxes_set(boxes, **size)
    for one, (x, y, w, h) in zip(content["annotations"], meant):
        one["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return content


def test_one_odd_box_hides_no_corners():
    text = refused(boxes_set([*corners_of(good_boxes()), ODD]))
    assert "30 of 31 would fit as corners" in text
    # Of few boxes each counts.
    few = corners_of([[60, 50, 20, 15], [50, 40, 40, 30], [55, 45, 30, 20]])
    assert "reaches outside" in check_annotations(boxes_set([*few, ODD]), name="x")[0]


@pytest.mark.parametrize("by", ["mask", "area"])
def test_corners_that_stay_inside_are_those_of_mask_or_area(by):
    meant = [[2 + k % 7, 3 + k % 5, 8 + k, 6 + k % 9] for k in range(20)]
    boxes = corners_of(meant)
    content = masked(boxes, meant) if by == "mask" else boxes_set(boxes)
    for k, (one, (_, _, w, h)) in enumerate(zip(content["annotations"], meant)):
        if by == "area":
            one["area"] = w * h if k > 3 else 10_000  # what fits neither says nothing
    text = refused(content)
    assert "as corners" in text
    assert "20 of 20" in text or by == "area"
    # Without either it may be so: big objects in the middle.
    assert check_annotations(boxes_set(boxes), name="x") == []
    right = masked(boxes, boxes)
    for one, (_, _, w, h) in zip(right["annotations"], boxes):
        one["area"] = w * h
    assert check_annotations(right, name="x") == []


def test_one_odd_box_hides_no_fractions():
    text = refused(boxes_set([*scaled(1, 1), ODD]))
    assert "all 'bbox' but 1 are within 1 pixel" in text
    assert "annotation 31" not in text


@pytest.mark.parametrize("more", [[], [[200, 200, 90, 90]]])
def test_percent_of_larger_images_are_refused(more):
    boxes = scaled(100, 100) + more
    assert "percent of the image" in refused(boxes_set(boxes, width=640, height=480))
    assert check_annotations(boxes_set(boxes, width=290, height=290), name="x") != []
    assert check_annotations(boxes_set(scaled(100, 100), width=150, height=150), name="x") == []


def test_few_boxes_or_one_place_are_no_more_than_a_warning():
    size = {"width": 640, "height": 480}
    logo = [[8 + k % 3, 9, 60 + k % 4, 40] for k in range(40)]
    for boxes in (logo, scaled(100, 100)[:12]):
        (warning,) = check_annotations(boxes_set(boxes, **size), name="x")
        assert "percent" in warning
    assert check_annotations(boxes_set(scaled(640, 480), **size), name="x") == []


@pytest.mark.parametrize("odd", [[], [[1500, 1200, 90, 90]]])
@pytest.mark.parametrize(("width", "height"), [(640, 480), (4000, 3000)])
def test_parts_of_1000_are_refused(odd, width, height):
    boxes = [*scaled(1000, 1000), *([] if width < 1000 else odd)]
    boxes += [[700, 700, 290, 280], [10, 800, 400, 190]]
    assert "parts of 1000" in refused(boxes_set(boxes, width=width, height=height))
