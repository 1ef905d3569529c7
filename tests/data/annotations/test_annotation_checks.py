"""What the one checker of annotations refuses, warns of, and lets pass."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from lt_det.data.annotations.box_checks import box_array, box_findings
from lt_det.data.annotations.checks import box_is_valid, check_annotations, is_crowd
from lt_det.data.annotations.json_file import read_annotation_json
from lt_det.data.annotations.mask_checks import mask_problem
from lt_det.data.stats.json_stats import count_json
from lt_det.data.stats.stats_cache import class_stats_of_json, evaluation_stats_of_json

SQUARE = [[0, 0, 5, 0, 5, 5]]


def boxes_set(boxes: list, *, width: int = 100, height: int = 80, **keys) -> dict:
    """A data set of one image with these boxes, ids from 1."""
    return {
        "images": [{"id": 1, "file_name": "1.jpg", "width": width, "height": height}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": 1, "bbox": box, **keys}
            for k, box in enumerate(boxes, start=1)
        ],
    }


@pytest.mark.parametrize(
    ("side", "kinds"),
    [
        (2, ["box-tiny"]),
        (3, ["box-fractions"]),
        ((2, 3), ["box-tiny"]),
        (np.nan, ["box-fractions"]),
    ],
)
def test_boxes_within_a_pixel_are_fractions_where_the_image_is_larger_than_two(side, kinds):
    """An object in an image of two pixels has no more room."""
    boxes, sizes = np.array([[0.0, 0.0, 1.0, 1.0]]), np.array([np.broadcast_to(side, 2)], float)
    assert [one.kind for one in box_findings(boxes, sizes)] == kinds


def good_boxes(num: int = 30) -> list[list[float]]:
    rng = np.random.default_rng(0)
    start = rng.uniform(0, [60, 50], size=(num, 2))
    extent = rng.uniform(2, 28, size=(num, 2))
    return np.concatenate([start, extent], axis=1).tolist()


def corners_of(boxes: list) -> list:
    return [[x, y, x + w, y + h] for x, y, w, h in boxes]


def test_good_boxes_pass_without_a_word():
    assert check_annotations(boxes_set(good_boxes()), name="x") == []
    assert check_annotations(boxes_set([]), name="x") == []
    # Rounding at the edge; a lone small object.
    assert check_annotations(boxes_set([[60, 50, 40.9, 30.9], [5, 5, 1, 1]]), name="x") == []


def test_corners_are_refused():
    with pytest.raises(ValueError, match=r"'x'.*ends outside its image in \d+ of 30.*as corners"):
        check_annotations(boxes_set(corners_of(good_boxes())), name="x")


def test_few_or_some_boxes_outside_are_a_warning():
    boxes = good_boxes()
    boxes[3:5] = [[80, 10, 40, 10], [-9, 0, 20, 20]]
    for given in (boxes, boxes[3:5], corners_of(boxes[:2]) + boxes):
        (warning,) = check_annotations(boxes_set(given), name="x")
        assert "reaches outside its image in 2 of" in warning
    assert (
        "annotation 4 of image 1: [80, 10, 40, 10]"
        in check_annotations(boxes_set(boxes), name="x")[0]
    )


def test_boxes_wholly_outside_and_flat_ones_are_counted_apart():
    beyond, flat = check_annotations(
        boxes_set([*good_boxes(), [150, 10, 9, 9], [1, 1, 0, 9], [1, 1, 9, 0]]), name="x"
    )[1:]
    assert "lies wholly outside its image in 1 of 33" in beyond
    assert "annotation 31" in beyond
    assert "no width or no height in 2 of 33" in flat
    assert "annotation 32" in flat


def test_fractions_are_refused_where_all_are_and_warned_of_where_some_are():
    fractions = [[x / 100, y / 80, w / 100, h / 80] for x, y, w, h in good_boxes()]
    with pytest.raises(ValueError, match="'x'.*fractions of the image.*in pixels"):
        check_annotations(boxes_set(fractions), name="x")
    with pytest.raises(ValueError, match="fractions"):
        check_annotations(boxes_set(fractions[:1]), name="x")
    (warning,) = check_annotations(boxes_set(fractions[:3] + good_boxes()), name="x")
    assert "within one pixel in 3 of 33" in warning


def test_images_of_unknown_size_do_not_judge_boxes():
    content = boxes_set(corners_of(good_boxes()))
    for size in ({}, {"width": None, "height": "80"}, {"width": 0, "height": 0}):
        content["images"][0] = {"id": 1, **size}
        assert check_annotations(content, name="x") == []


@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        (["1", "2", "3", "4"], r"\['1', '2', '3', '4'\]"),
        ([], r"\[\]"),
        ([1, 2, 3], r"\[1, 2, 3\]"),
        (None, "None"),
        ([1, 2, None, 4], "None, 4"),
        ([1, 2, math.nan, 4], "nan"),
        ([1, 2, math.inf, 4], "inf"),
        ([9, 9, -3, 4], "-3"),
        ("1 2 3 4", "1 2 3 4"),
        ({"x": 1}, "x"),
        ([[1, 2, 3, 4]], r"\[\[1"),
    ],
)
def test_what_is_no_box_is_named_alone_or_among_good_ones(bad, shown):
    for before in ([], good_boxes(1), good_boxes()):
        number = len(before) + 1
        with pytest.raises(ValueError, match=f"'bbox' of 1 .*annotation {number} of.*{shown}"):
            check_annotations(boxes_set([*before, bad]), name="x")
    with pytest.raises(ValueError, match="'bbox' of 2 of 2"):
        check_annotations(boxes_set([bad, bad]), name="x")


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        (None, None),
        ([], None),
        (SQUARE, None),
        ([[0, 0, 5, 5]], None),  # two points: dropped as Detectron2 does, not refused
        ([[0, 0, 5, 5], [1, 1, 2, 2]], None),
        ([[]], None),
        ({"size": [80, 100], "counts": "Xo0T3dg6"}, None),
        ({"size": [80, 100], "counts": [0, 8000]}, None),
        ([[0, 0, 5, math.nan, 5, 5]], "nan"),
        ([*SQUARE, [0, 0, 5, math.inf, 5, 5]], "nan"),
        ([[0, 0, math.inf, -math.inf, 5, 5]], "nan"),
        ([[0, 0, None, None, 5, 5]], "nan"),
        ([0, 0, 5, 0, 5, 5], "flat"),
        ([[[0, 0], [5, 0], [5, 5]]], "points"),
        ([[0, 0], [5, 0], [5, 5]], "points"),
        ([{"x": 1, "y": 2}], "malformed"),
        ("polygon", "malformed"),
        ("", "malformed"),
        ({}, None),
        ({"counts": "abc"}, "malformed"),
        ({"size": [80, 100]}, "malformed"),
        (["0,0,5,0"], "malformed"),
        (7, "malformed"),
    ],
)
def test_masks_that_are_none_are_refused_also_where_masks_are_not_kept(
    segmentation, problem, tmp_path
):
    assert mask_problem(segmentation) == problem
    content = boxes_set([[0, 0, 100, 80]] * 3, segmentation=SQUARE)
    content["annotations"][1]["segmentation"] = segmentation
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    light = read_annotation_json(path, name="x", keep_segmentations=False)
    for given in (content, light):
        if problem is None:
            assert check_annotations(given, name="x") == []
        else:
            with pytest.raises(ValueError, match="'segmentation' of 1 of 3.*annotation 2 of"):
                check_annotations(given, name="x")


@pytest.mark.parametrize(
    ("flag", "crowd", "warned"),
    [
        (0, False, False), (1, True, False), (None, False, False), (False, False, False),
        (True, True, False), (0.0, False, False), ("0", False, True), ("1", True, True),
        ("false", False, True), (" False ", False, True), ("", False, True), ("true", True, True),
        (2, True, True), ("maybe", True, True), (-1, True, True), (0.5, True, True),
    ],
)  # fmt: skip
def test_crowd_flags_are_taken_as_they_are_meant(flag, crowd, warned):
    content = boxes_set(good_boxes(20))
    content["annotations"][1]["iscrowd"] = flag
    assert is_crowd(content["annotations"][1]) == crowd
    warnings = check_annotations(content, name="x")
    assert len(warnings) == warned
    assert not warned or "'iscrowd' is not 0 or 1 in 1 of 20" in warnings[0]
    assert count_json(content, name="x").instance_counts == (20 - crowd,)


def test_all_crowds_are_warned_of():
    (warning,) = check_annotations(boxes_set(good_boxes(2), iscrowd=1), name="x")
    assert "all 2 annotations are crowds" in warning


@pytest.mark.parametrize(("flag", "crowds", "said"), [(1, 2, False), (1, 3, True), (True, 5, True)])
def test_many_crowds_are_warned_of_with_their_share(flag, crowds, said):
    content = boxes_set(good_boxes(20))
    for one in content["annotations"][:crowds]:
        one["iscrowd"] = flag
    warnings = check_annotations(content, name="x")
    assert [
        one.startswith(f"{5 * crowds} % of the annotations are crowds") for one in warnings
    ] == ([True] * said)
    assert all("CVAT" in one for one in warnings)


@pytest.mark.parametrize("count", [class_stats_of_json, evaluation_stats_of_json])
def test_warnings_come_at_every_start_though_the_json_is_read_once(
    count, tmp_path, monkeypatch, caplog
):
    from lt_det.data.warn_once import warn_once

    path = tmp_path / "set.json"
    path.write_text(json.dumps(boxes_set([[90, 10, 50, 10]], area=0)))
    stats = count(path, name="x", cache_dir=tmp_path / "cache")
    assert caplog.text.count("Data set 'x': 'bbox' reaches outside") == 1
    assert ("'area' is missing" in caplog.text) == (count is evaluation_stats_of_json)

    def refuse(*_, **__):
        raise AssertionError("the json was read again")

    monkeypatch.setattr("lt_det.data.stats.stats_cache.read_annotation_json", refuse)
    warn_once.cache_clear()
    caplog.clear()
    assert count(path, name="y", cache_dir=tmp_path / "cache").image_counts == stats.image_counts
    assert caplog.text.count("Data set 'y': 'bbox' reaches outside") == 1


def test_a_test_split_without_annotations_has_zero_counts(tmp_path):
    content = boxes_set([])
    del content["annotations"]
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    assert evaluation_stats_of_json(path, name="x", cache_dir=tmp_path).image_counts == (0,)


def test_many_boxes_outside_that_are_no_corners_are_warned_of_and_not_refused():
    """Of an image of twice the size, say."""
    boxes = (2 * np.array(good_boxes())).tolist()
    (warning, *_) = check_annotations(boxes_set(boxes), name="x")
    assert "reaches outside its image" in warning


@pytest.mark.parametrize("number", [10**20, 1e300, -(10**20), 2**53 + 2])
def test_numbers_that_64_bits_do_not_hold_are_no_box(number):
    good = [1, 2, 3, 4]
    for box in ([number, 2, 3, 4], [1, 2, 3, number]):
        assert not box_is_valid(box)
        for boxes in ([good, box], [good, [float(x) for x in box]], [good, box, None]):
            assert box_array(boxes, box_is_valid)[1].tolist()[:2] == [True, False]
