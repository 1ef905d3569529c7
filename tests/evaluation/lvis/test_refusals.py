"""Input that the metric refuses, and what it says."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from lt_det.evaluation.lvis.average_precision import BACKENDS, lvis_average_precision
from tests.evaluation.lvis.sets import BOX, corners, found, one_image, rle


@pytest.mark.parametrize(
    ("backend", "module", "advice"),
    [
        ("hotcoco", "hotcoco", r"lt_det\[eval\]"),
        ("lvis-api", "lvis", r"lt_det\[eval\]"),
        ("lvis-api", "cv2", "opencv-python-headless"),
    ],
)
def test_a_missing_package_is_named_with_what_to_install(backend, module, advice, monkeypatch):
    package = backend.split("-")[0]
    for name in [n for n in sys.modules if n.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # an import of it raises
    with pytest.raises(ImportError, match=advice):
        lvis_average_precision(one_image(), [found(1, BOX, 0.9)], iou_type="bbox", backend=backend)
    # As in a notebook: install, and call again. Of lvis some modules are there from the first try.
    monkeypatch.undo()
    lvis_average_precision(one_image(), [found(1, BOX, 0.9)], iou_type="bbox", backend=backend)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iou_type": "box"}, "iou_type.*'box'"),
        ({"backend": "fast"}, "backend.*'fast'"),
        ({"max_dets": 0}, "max_dets.*0"),
        ({"detections": [{**found(1, BOX, 0.9), "image_id": 3}]}, r"images .*\[3\]"),
        ({"detections": [found(0, BOX, 0.9)]}, r"categories .*\[0\].*1 to 3"),
        ({"detections": [found(1, BOX, float("nan"))]}, "'score' must be a finite number.*image 7"),
        (
            {"detections": [found(1, [0, 0, np.inf, 1], 0.5)]},
            "'bbox' must be .*finite numbers.*image 7",
        ),
        ({"detections": [{"image_id": 7, "category_id": 1, "bbox": BOX}]}, r"lacks \['score'\]"),
        ({"iou_type": "segm"}, "annotation 1.*image 7.*no segmentation"),
        ({"frequency_groups": {1: "r", 2: "c"}}, r"no group .*\[3\]"),
        ({"frequency_groups": {1: "r", 2: "c", 3: "x"}}, "'x' for category id 3"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {
        "ground_truth": one_image(),
        "detections": [found(1, BOX, 0.9)],
        "iou_type": "bbox",
        **change,
    }
    with pytest.raises(ValueError, match=message):
        lvis_average_precision(
            arguments.pop("ground_truth"), arguments.pop("detections"), **arguments
        )


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_boxes_alone_cannot_be_evaluated_as_masks(backend):
    ground_truth = one_image()
    ground_truth["annotations"][0]["segmentation"] = corners(BOX)
    with pytest.raises(ValueError, match="segmentation"):
        lvis_average_precision(ground_truth, [found(1, BOX, 0.9)], iou_type="segm", backend=backend)


def test_a_mask_of_another_size_names_the_image():
    ground_truth = one_image(height=100)
    ground_truth["annotations"][0]["segmentation"] = corners(BOX)
    record = {**found(1, BOX, 0.9), "segmentation": rle(corners(BOX))}
    with pytest.raises(ValueError, match=r"image 7 .*\(128, 128\).*\(100, 128\)"):
        lvis_average_precision(ground_truth, [record], iou_type="segm")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda g: g.pop("images"), "images"),
        (lambda g: g["images"].append(g["images"][0]), r"'id' of 'images' must differ.*\[7\]"),
        (
            lambda g: g["categories"].append(g["categories"][2]),
            r"'categories'.*'id' must differ.*\[3\]",
        ),
        (lambda g: g["images"][0].pop("height"), "'height'.*first ids 7: 128 x None"),
        (
            lambda g: g["annotations"][0].update(category_id=9),
            "'category_id' of 1.*annotation 1 of image 7: 9",
        ),
        (
            lambda g: g["annotations"][0].update(image_id=9),
            "'image_id' of 1.*annotation 1 of image 9: 9",
        ),
        (lambda g: g["categories"][1].pop("frequency"), r"'frequency'.*\[2\]"),
    ],
)
def test_a_broken_json_is_refused(break_it, message):
    ground_truth = one_image()
    break_it(ground_truth)
    with pytest.raises(ValueError, match=message):
        lvis_average_precision(ground_truth, [found(1, BOX, 0.9)], iou_type="bbox")


def test_named_pipes_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    truth = one_image()
    for arguments in ((tmp_path / "pipe.json", []), (truth, tmp_path / "pipe.json")):
        with pytest.raises(ValueError, match="pipe.json is a named pipe"):
            lvis_average_precision(*arguments, iou_type="bbox")
