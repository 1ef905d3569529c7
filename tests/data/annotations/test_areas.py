"""Areas that export tools leave out or write wrong."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from lt_det.data.annotations.areas import area_doubts, areas_of, check_areas, image_sizes
from lt_det.data.annotations.json_file import read_annotation_json

SIZES = {1: (64, 64)}
#: The lower left half of a square of 20 px: 200 of its 400 px, and a diagonal.
TRIANGLE = [[10, 10, 10, 30, 30, 30]]
HUGE_INT = 10**400


def annotation(**keys):
    return {"id": 4, "image_id": 1, "bbox": [10, 10, 20, 20], **keys}


@pytest.mark.parametrize(
    "area", [0, 0.0, -1, math.nan, math.inf, -math.inf, None, "", "x", [], HUGE_INT]
)
@pytest.mark.parametrize(
    ("segmentation", "low", "high"),
    [
        (TRIANGLE, 180, 220),
        ([], 400, 400),
        (None, 400, 400),
        # Masks that cannot be read, or hold nothing: the box.
        ([[10, 10, math.nan, 30, 30, 30]], 400, 400),
        ([[10, 10, 30, 30]], 400, 400),
        ([10, 10, 30, 30], 400, 400),
        (["x"], 400, 400),
        ({"size": [64, 64], "counts": [64 * 64]}, 400, 400),
        ({"size": [64, 64]}, 400, 400),
        ({"size": [64, 64], "counts": [1000, 100, 2996]}, 100, 100),
    ],
)
def test_an_area_that_is_none_is_the_masks_or_else_the_boxs(area, segmentation, low, high, caplog):
    given = annotation(area=area, segmentation=segmentation)
    (found,) = areas_of([given], SIZES, name="set")
    assert low <= found <= high
    assert "'set': 'area' is missing or no positive number" in caplog.text
    assert "1 of 1 annotations" in caplog.text
    assert "first annotation 4 of image 1" in caplog.text


def test_good_areas_stay_and_no_extent_is_no_area_and_nothing_is_said(caplog):
    flat = annotation(area=0, bbox=[10, 10, 0, 20], segmentation=[[10, 10, 10, 30, 10, 20]])
    without_box = annotation(area=0, bbox=None)
    given = [annotation(area=0.5), annotation(area="7.5"), flat, without_box]
    np.testing.assert_array_equal(areas_of(given, SIZES, name="set"), [0.5, 7.5, 0, 0])
    assert not caplog.text


def test_the_warning_counts_all_names_a_few_and_is_given_once(caplog):
    given = [annotation(id=i, area=i % 2) for i in range(40)]
    for _ in range(2):
        areas_of(given, SIZES, name="set")
    assert caplog.text.count("in 20 of 40 annotations") == 1
    assert "annotation 8 of image 1" in caplog.text
    assert "annotation 10 of" not in caplog.text


def test_an_image_without_an_id_stops_no_sizes():
    images = [{"height": 2, "width": 3}, {"id": 1, "height": 4, "width": 5}, {"id": 2}]
    assert image_sizes(images)[1] == (4, 5)


@pytest.mark.parametrize(
    ("segmentation", "wrong", "said"),
    [
        (TRIANGLE, 5, True),
        ({"size": [64, 64], "counts": [1000, 200, 2896]}, 5, True),
        (TRIANGLE, 1, False),
        ([], 21, True),
        ([], 4, False),
        # A thin mask, and what is seen of a hidden object.
        ([[10, 10, 11, 10, 30, 30, 29, 30]], 40, False),
        ([[10, 10, 13, 10, 13, 13, 10, 13]], 40, False),
    ],
)
def test_areas_far_below_the_mask_are_said_before_a_training_too(
    segmentation, wrong, said, tmp_path
):
    given = [
        annotation(id=i, area=15 if i < wrong else 200, segmentation=segmentation)
        for i in range(40)
    ]
    assert len(area_doubts(given, np.zeros(0, dtype=np.int64))) == said
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [], "annotations": given}))
    dropped = read_annotation_json(path, name="x", keep_segmentations=False)["annotations"]
    warnings = check_areas(dropped, SIZES)
    assert ["AP by size is then wrong" in one for one in warnings] == [True] * said
