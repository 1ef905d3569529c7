from __future__ import annotations

import copy
import json
import logging
import subprocess
import sys

import numpy as np
import pytest

from lt_det.evaluation.detections import Detections
from lt_det.evaluation.lvis import ground_truth as ground_truth_module
from lt_det.evaluation.lvis.average_precision import BACKENDS, lvis_average_precision
from lt_det.evaluation.lvis.ground_truth import read_ground_truth
from tests.evaluation.lvis.sets import (
    BOX,
    FAR,
    corners,
    found,
    one_image,
    random_detections,
    random_ground_truth,
    rle,
)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_hand_computed_case(backend):
    # A miss at 0.9 before the hit at 0.8: precision 1/2 at every recall. The second hit of the
    # same object at 0.7 lies behind full recall and costs nothing.
    records = [found(1, FAR, 0.9), found(1, BOX, 0.8), found(1, BOX, 0.7)]
    result = lvis_average_precision(one_image(), records, iou_type="bbox", backend=backend)
    assert result.summary["AP"] == pytest.approx(50, abs=1e-9)
    assert result.summary["APr"] == pytest.approx(50, abs=1e-9)
    assert result.summary["APm"] == pytest.approx(50, abs=1e-9)
    undefined = [result.summary[m] for m in ("APs", "APl", "APc", "APf")]
    assert np.isnan(undefined).all()
    first = result.per_category[0]
    assert (first.name, first.group, first.num_gt_instances, first.num_gt_images) == (
        "class 1", "r", 1, 1,
    )  # fmt: skip
    assert result.group_sizes() == {"r": (1, 1), "c": (0, 1), "f": (0, 1)}


def two_images(**second) -> dict:
    """As one_image, and an image 8 without objects and, unless given, without lists."""
    ground_truth = one_image()
    ground_truth["images"].append({"id": 8, "height": 128, "width": 128, **second})
    return ground_truth


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize(
    ("second", "ap"),
    [
        ({"neg_category_ids": [], "not_exhaustive_category_ids": []}, 100),  # not verified
        ({"neg_category_ids": [1], "not_exhaustive_category_ids": []}, 50),  # verified absent
        ({"neg_category_ids": [1], "not_exhaustive_category_ids": [1]}, 100),  # incomplete
        ({}, 100),  # lists missing here only: nothing is known
    ],
)
def test_a_detection_elsewhere_counts_only_where_absence_was_verified(backend, second, ap):
    records = [found(1, BOX, 0.8), {**found(1, BOX, 0.9), "image_id": 8}]
    result = lvis_average_precision(two_images(**second), records, iou_type="bbox", backend=backend)
    assert result.summary["AP"] == pytest.approx(ap, abs=1e-9)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_crowds_are_no_objects_and_excuse_detections_in_their_image(backend, caplog):
    ground_truth = two_images(neg_category_ids=[1], not_exhaustive_category_ids=[])
    crowd = {"id": 2, "image_id": 8, "category_id": 1, "bbox": FAR, "area": 1600.0, "iscrowd": 1}
    ground_truth["annotations"].append(crowd)
    untouched = copy.deepcopy(ground_truth)
    # Before the hit: three detections inside of the crowd and one beside it.
    records = [{**found(1, FAR, s), "image_id": 8} for s in (0.95, 0.93, 0.92)]
    records += [{**found(1, BOX, 0.9), "image_id": 8}, found(1, BOX, 0.8)]
    with caplog.at_level(logging.INFO, logger="lt_det"):
        result = lvis_average_precision(ground_truth, records, iou_type="bbox", backend=backend)
    assert result.summary["AP"] == pytest.approx(100, abs=1e-9)
    assert "crowds in 1 images" in caplog.text
    assert ground_truth == untouched
    # As an ordinary object it would cost recall and, after its first hit, precision.
    del crowd["iscrowd"]
    result = lvis_average_precision(ground_truth, records, iou_type="bbox", backend=backend)
    assert result.summary["AP"] < 75


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_a_set_without_any_lists_is_exhaustive_and_says_so_once(backend, caplog):
    ground_truth_module._say_exhaustive.cache_clear()
    ground_truth = two_images()
    for image in ground_truth["images"]:
        image.pop("neg_category_ids", None)
        image.pop("not_exhaustive_category_ids", None)
    records = [found(1, BOX, 0.8), {**found(1, BOX, 0.9), "image_id": 8}]
    with caplog.at_level(logging.INFO, logger="lt_det"):
        result = lvis_average_precision(ground_truth, records, iou_type="bbox", backend=backend)
    assert result.summary["AP"] == pytest.approx(50, abs=1e-9)
    assert caplog.text.count("exhaustively annotated") == 1


def test_the_limit_is_on_the_image_not_on_the_category():
    records = [found(3, FAR, 0.9), found(3, FAR, 0.8), found(1, BOX, 0.7)]
    for max_dets, ap in ((3, 100.0), (2, 0.0)):
        result = lvis_average_precision(one_image(), records, iou_type="bbox", max_dets=max_dets)
        assert result.summary["AP"] == pytest.approx(ap, abs=1e-9)


def test_passed_groups_replace_those_of_the_json():
    ground_truth = one_image()
    groups = {1: "f", 2: "r", 3: "c"}
    result = lvis_average_precision(
        ground_truth, [found(1, BOX, 0.9)], iou_type="bbox", frequency_groups=groups
    )
    assert result.summary["APf"] == pytest.approx(100, abs=1e-9)
    assert np.isnan(result.summary["APr"])
    assert [c.group for c in result.per_category] == ["f", "r", "c"]
    for category in ground_truth["categories"]:
        del category["frequency"]
    without = lvis_average_precision(
        ground_truth, [found(1, BOX, 0.9)], iou_type="bbox", frequency_groups=groups
    )
    np.testing.assert_equal(without.summary, result.summary)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_without_any_groups_they_are_nan_with_a_warning(backend, caplog):
    ground_truth = one_image()
    for category in ground_truth["categories"]:
        del category["frequency"]
    result = lvis_average_precision(
        ground_truth, [found(1, BOX, 0.9)], iou_type="bbox", backend=backend
    )
    assert result.summary["AP"] == pytest.approx(100, abs=1e-9)
    assert np.isnan([result.summary[m] for m in ("APr", "APc", "APf")]).all()
    assert "frequency_groups" in caplog.text


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_no_detections_give_what_a_single_miss_gives(backend, iou_type):
    ground_truth = random_ground_truth(np.random.default_rng(5))
    unseen = max(c["id"] for c in ground_truth["categories"])  # has no objects
    image_id = ground_truth["images"][0]["id"]
    miss = {
        "image_id": image_id,
        "category_id": unseen,
        "score": 0.5,
        "bbox": BOX,
        "segmentation": rle(corners(BOX)),
    }
    empty, missed = (
        lvis_average_precision(ground_truth, records, iou_type=iou_type, backend=backend)
        for records in ([], [miss])
    )
    assert empty.summary["AP"] == 0
    np.testing.assert_equal(empty.summary, missed.summary)
    np.testing.assert_equal(empty.category_rows(), missed.category_rows())


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_annotation_ids_play_no_role(backend):
    ground_truth = one_image()
    ground_truth["annotations"][0]["id"] = 0  # lvis-api alone takes it for unfound
    ground_truth["annotations"].append({**ground_truth["annotations"][0], "bbox": FAR})
    records = [found(1, BOX, 0.9), found(1, FAR, 0.8)]
    result = lvis_average_precision(ground_truth, records, iou_type="bbox", backend=backend)
    assert result.summary["AP"] == pytest.approx(100, abs=1e-9)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_inputs_are_not_changed(backend, iou_type):
    rng = np.random.default_rng(0)
    ground_truth = random_ground_truth(rng)
    records = random_detections(rng, ground_truth, per_image=5)
    before = copy.deepcopy((ground_truth, records))
    lvis_average_precision(ground_truth, records, iou_type=iou_type, backend=backend)
    assert (ground_truth, records) == before
    checked = read_ground_truth(ground_truth, with_masks=True)
    before = copy.deepcopy(checked)
    lvis_average_precision(checked, records, iou_type=iou_type, backend=backend)
    assert checked == before


def test_files_and_arrays_give_the_same_as_records(tmp_path):
    rng = np.random.default_rng(1)
    ground_truth = random_ground_truth(rng)
    records = random_detections(rng, ground_truth, per_image=10)
    (tmp_path / "gt.json").write_text(json.dumps(ground_truth))
    (tmp_path / "dt.json").write_text(json.dumps(records))
    expected = lvis_average_precision(ground_truth, records, iou_type="segm")
    from_files = lvis_average_precision(
        tmp_path / "gt.json", str(tmp_path / "dt.json"), iou_type="segm"
    )
    from_arrays = lvis_average_precision(
        read_ground_truth(ground_truth, with_masks=True),
        Detections.from_records(records),
        iou_type="segm",
    )
    np.testing.assert_equal(from_files.summary, expected.summary)
    np.testing.assert_equal(from_arrays.summary, expected.summary)
    assert list(Detections.from_records(records).records()) == records


def test_the_reference_backend_leaves_numpy_and_logging_as_they_were():
    # In a fresh process: the package configures the root logger when it is imported first.
    program = """
import json, logging, sys
import numpy as np
from lt_det.evaluation.lvis.average_precision import lvis_average_precision
had_float = "float" in vars(np)
truth, records = json.loads(sys.stdin.read())
lvis_average_precision(truth, records, iou_type="bbox", backend="lvis-api")
import lvis.eval
assert not logging.getLogger().handlers, logging.getLogger().handlers
assert ("float" in vars(np)) == had_float
assert lvis.eval.np is np
"""
    subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps([one_image(), [found(1, BOX, 0.9)]]),
        text=True,
        check=True,
    )


def test_a_missing_area_is_that_of_the_mask_or_else_the_box():
    ground_truth = one_image()
    del ground_truth["annotations"][0]["area"]
    assert read_ground_truth(ground_truth, with_masks=False).annotations[0]["area"] == 1600
    ground_truth["annotations"][0]["segmentation"] = corners([10, 10, 20, 20])
    assert read_ground_truth(ground_truth, with_masks=True).annotations[0]["area"] == 400


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_a_crowd_that_is_not_found_costs_no_recall(backend):
    ground_truth = two_images(neg_category_ids=[1], not_exhaustive_category_ids=[])
    crowd = {"id": 2, "image_id": 8, "category_id": 1, "bbox": FAR, "area": 1600.0}
    for flag, ap in ((1, 100), ("1", 100), (True, 100), (0, 51), ("0", 51)):
        ground_truth["annotations"] = [ground_truth["annotations"][0], {**crowd, "iscrowd": flag}]
        result = lvis_average_precision(
            ground_truth, [found(1, BOX, 0.8)], iou_type="bbox", backend=backend
        )
        # One of two objects: precision 1 up to recall 0.5, which are 51 of 101 points.
        assert result.summary["AP"] == pytest.approx(100 * (ap != 51 or 51 / 101), abs=1e-9)
        assert result.per_category[0].num_gt_instances == 1 + (ap == 51)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize("side", [0.001, 0.5, 1.0])
def test_objects_and_detections_of_less_than_a_pixel_count(backend, side):
    ground_truth = one_image()
    box = [10.0, 10.0, side, side]
    ground_truth["annotations"][0].update(bbox=box, area=side**2)
    result = lvis_average_precision(
        ground_truth, [found(1, box, 0.8)], iou_type="bbox", backend=backend
    )
    assert result.summary["AP"] == pytest.approx(100, abs=1e-9)
    assert result.summary["APs"] == pytest.approx(100, abs=1e-9)
