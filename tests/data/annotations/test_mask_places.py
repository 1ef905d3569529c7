"""Masks against their boxes: what contradicts is found, what may be is not."""

from __future__ import annotations

import json

import numpy as np
import pycocotools.mask as mask_utils
import pytest

from lt_det.data.annotations.checks import check_annotations
from lt_det.data.annotations.json_file import read_annotation_json
from lt_det.data.annotations.mask_places import bounds_of_runs
from lt_det.data.inspection.data_sets import inspect_data_sets
from lt_det.data.stats.stats_cache import class_stats_of_json
from lt_det.data.warn_once import warn_once

WIDTH, HEIGHT = 200, 100


def content(num: int = 12) -> dict:
    draw = np.random.default_rng(0)
    annotations = []
    for i in range(num):
        x, y = int(draw.integers(60, 150)), int(draw.integers(10, 50))
        w, h = int(draw.integers(12, 40)), int(draw.integers(12, 40))
        polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
        annotations.append(
            {"id": i + 1, "image_id": 1, "category_id": 1 + i % 2, "area": w * h, "iscrowd": 0,
             "bbox": [x, y, w, h], "segmentation": [polygon]}
        )  # fmt: skip
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def points(change):
    """Change each point of a polygon, knowing its box."""

    def of(box, polygon):
        moved = [change(x, y, *box) for x, y in zip(polygon[0::2], polygon[1::2])]
        return [[number for point in moved for number in point]]

    return of


def runs(box, _=None, *, inverted: bool = False):
    x, y, w, h = box
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    flat = mask.ravel(order="F") ^ inverted
    changes = np.flatnonzero(np.diff(flat, prepend=0))
    counts = np.diff(changes, prepend=0, append=flat.size).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": counts}


def compressed(box, _=None, **options):
    code = mask_utils.frPyObjects(runs(box, **options), HEIGHT, WIDTH)
    return {**code, "counts": code["counts"].decode()}


# Mask, kind, whether check-data calls it an error where all are so.
WRONG = {
    "fractions": (points(lambda x, y, *_: (x / WIDTH, y / HEIGHT)), "mask-fractions", True),
    "percent": (points(lambda x, y, *_: (100 * x / WIDTH, 100 * y / HEIGHT)), "mask-percent", True),
    "swapped": (points(lambda x, y, *_: (y, x)), "mask-swapped", True),
    "scaled": (points(lambda x, y, *_: (x / 2.5, y / 2.5)), "mask-scaled", True),
    "from the box": (points(lambda x, y, a, b, *_: (x - a, y - b)), "mask-in-box", True),
    "elsewhere": (lambda *_: [[0, 80, 9, 80, 9, 99]], "mask-elsewhere", False),
    "line": (points(lambda x, _, a, b, *__: (x, b + (x - a) / 2)), "mask-empty", False),
    "point": (points(lambda _, __, a, b, *___: (a, b)), "mask-empty", False),
    "all zero": (lambda *_: {"size": [HEIGHT, WIDTH], "counts": [WIDTH * HEIGHT]}, "mask-empty",
                 False),
    "compressed zero": (lambda *_: compressed([0, 0, 0, 0]), "mask-empty", False),
    "inverted": (lambda box, _: runs(box, inverted=True), "mask-inverted", True),
    "compressed, inverted": (lambda box, _: compressed(box, inverted=True), "mask-inverted", True),
    "encoded elsewhere": (lambda *_: compressed([0, 0, 9, 9]), "mask-elsewhere", False),
}  # fmt: skip


def inspected(tmp_path, made, **options):
    path = tmp_path / "train.json"
    path.write_text(json.dumps(made))
    return inspect_data_sets([path], **options)


@pytest.mark.parametrize("fault", WRONG)
def test_masks_that_contradict_their_boxes_are_named(fault, tmp_path):
    change, kind, misleads = WRONG[fault]
    made = content()
    for one in made["annotations"]:
        one["segmentation"] = change(one["bbox"], one["segmentation"][0])
    found = inspected(tmp_path, made)
    (finding,) = (f for f in found.findings if f.kind.startswith(("mask-", "box-")))
    assert (finding.kind, finding.harm) == (kind, "error" if misleads else "warning")
    assert finding.count >= 10
    assert finding.first[0].startswith("annotation ")
    for keep in (True, False):  # a start drops masks while reading
        read = read_annotation_json(tmp_path / "train.json", name="x", keep_segmentations=keep)
        if kind == "mask-fractions":
            with pytest.raises(ValueError, match="fractions of the image.*write polygons in pix"):
                check_annotations(read, name="x")
        else:
            (text,) = check_annotations(read, name="x")
            assert finding.what in text
            assert f"{finding.count} of 12" in text
    if kind == "mask-fractions":
        assert found.findings_after_mending() == []
        fixed = found.files[0].mended["annotations"]
        for one, right in zip(fixed, content()["annotations"]):
            np.testing.assert_allclose(one["segmentation"], right["segmentation"])


def test_boxes_as_corners_or_centres_are_seen_by_their_masks(tmp_path):
    for kind, change in {
        "box-corners": lambda x, y, w, h: [x, y, x + w, y + h],
        "box-centre-by-mask": lambda x, y, w, h: [x + w / 2, y + h / 2, w, h],
    }.items():
        made = content()
        made["images"][0].update(width=2 * WIDTH, height=2 * HEIGHT)  # all end within the image
        for one in made["annotations"]:
            one["bbox"] = change(*one["bbox"])
        assert [f.kind for f in inspected(tmp_path, made).findings if f.harm == "error"] == [kind]


def test_few_are_a_warning_whatever_explains_them(tmp_path):
    made = content()
    for one in made["annotations"][:3]:
        one["segmentation"] = [[n / 200 for n in one["segmentation"][0]]]
    (finding,) = inspected(tmp_path, made).findings
    assert (finding.kind, finding.harm, finding.count) == ("mask-fractions", "warning", 3)


def test_masks_that_are_not_used_mislead_nobody(tmp_path):
    made = content()
    for one in made["annotations"]:
        one["segmentation"] = WRONG["swapped"][0](one["bbox"], one["segmentation"][0])
    assert inspected(tmp_path, made, masks="off").is_usable
    assert not inspected(tmp_path, made, masks="polygon").is_usable


RIGHT = {
    "visible part of a whole": points(lambda x, y, a, b, *_: (a + (x - a) / 4, b + (y - b) / 3)),
    "rounded": points(lambda x, y, *_: (x - 0.9, y + 0.9)),
    "one pixel": points(lambda x, y, a, b, *_: (a + (x > a), b + (y > b))),
    "larger than the visible box": points(
        lambda x, y, a, b, *_: (a + 2 * (x - a), b + 2 * (y - b))
    ),
    "figure of eight": lambda _, p: [[p[0], p[1], p[4], p[5], p[2], p[3], p[6], p[7]]],
    "a line beside the object": lambda _, p: [p, [p[0], p[1], p[4], p[5], p[0], p[1]]],
    "encoded": runs,
    "compressed": compressed,
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_may_be_is_no_doubt(case):
    made = content()
    for one in made["annotations"]:
        one["segmentation"] = RIGHT[case](one["bbox"], one["segmentation"][0])
    assert check_annotations(made, name="x") == []


def test_crowds_flat_boxes_and_small_objects_are_left():
    made = content()
    made["annotations"][0].update(segmentation=[[0, 0, 9, 0, 9, 9]], iscrowd=1)
    made["annotations"][1].update(bbox=[10, 10, 2, 2], segmentation=[[11, 11, 13, 11, 13, 13]])
    made["annotations"][2].update(bbox=[10, 10, 1, 20], segmentation=[[10, 10, 10, 20, 10, 30]])
    assert check_annotations(made, name="x") == []


def test_bounds_of_runs_are_those_of_pycocotools():
    draw = np.random.default_rng(1)
    for _ in range(60):
        mask = np.asfortranarray(draw.random((5, 4)) < draw.choice([0.05, 0.3]), dtype=np.uint8)
        flat = mask.ravel(order="F")
        changes = np.flatnonzero(np.diff(flat, prepend=0))
        counts = np.diff(changes, prepend=0, append=flat.size).tolist()
        x, y, w, h = mask_utils.toBbox(mask_utils.encode(mask)).tolist()
        expected = (x, y, x + w, y + h) if w else None
        assert bounds_of_runs(counts, 5) == expected


def test_a_warning_comes_at_every_start(write, tmp_path, caplog):
    made = content()
    made["annotations"][0]["segmentation"] = [[0, 80, 9, 80, 9, 99]]
    path = write(made)
    for _ in range(2):  # counted, then from the cache
        warn_once.cache_clear()
        caplog.clear()
        class_stats_of_json(path, name="x", cache_dir=tmp_path / "cache")
        assert "different places" in caplog.text
        assert "1 of 12" in caplog.text


def test_real_data_have_no_doubt_but_the_images_that_were_turned(shared_data):
    for name in ("train", "val"):
        path = shared_data / "coco" / "annotations" / f"instances_{name}2017.json"
        assert check_annotations(json.loads(path.read_text()), name=name) == []
    turned = json.loads((shared_data / "lvis" / "lvis_v0.5_val_100.json").read_text())
    (text,) = check_annotations(turned, name="v0.5")
    assert "13 of 977" in text  # all of 3 images, whose masks are those before a quarter turn
