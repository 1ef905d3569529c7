"""Pasted pixels, masks, boxes and lists, against a restatement pixel by pixel."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from lt_det.data.copy_paste.crops import Crop
from lt_det.data.copy_paste.paste import PlacedObject, pasted_image, pasted_record

HEIGHT, WIDTH = 18, 24
XYXY, XYWH = "corners", "sides"


def rectangle(x0: int, y0: int, x1: int, y1: int, *, category_id: int, as_runs: bool = False):
    """Return an annotation and the set of its pixels (x, y)."""
    pixels = {(x, y) for x in range(x0, x1) for y in range(y0, y1)}
    segmentation = [[x0, y0, x1, y0, x1, y1, x0, y1]]
    if as_runs:
        array = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
        array[y0:y1, x0:x1] = 1
        segmentation = coco_mask.encode(array)
    box = [float(x0), float(y0), float(x1 - x0), float(y1 - y0)]
    annotation = {"bbox": box, "bbox_mode": XYWH, "category_id": category_id, "id": x0 + 100 * y0}
    return {**annotation, "segmentation": segmentation}, pixels


def random_object(rng: np.random.Generator, category_id: int) -> PlacedObject:
    h, w = rng.integers(1, 12), rng.integers(1, 14)
    crop = Crop(rng.integers(0, 256, (h, w, 3), dtype=np.uint8), rng.random((h, w)) < 0.7)
    x, y = rng.integers(0, WIDTH - w + 1), rng.integers(0, HEIGHT - h + 1)
    return PlacedObject(category_id, crop, int(x), int(y))


def random_record(rng: np.random.Generator) -> tuple[dict, list[set]]:
    annotations, pixels = [], []
    for i in range(6):
        x0, y0 = int(rng.integers(0, WIDTH - 3)), int(rng.integers(0, HEIGHT - 3))
        x1, y1 = int(rng.integers(x0 + 1, WIDTH + 1)), int(rng.integers(y0 + 1, HEIGHT + 1))
        small = i < 3  # so that some are hidden altogether
        x1, y1 = (min(x1, x0 + 3), min(y1, y0 + 3)) if small else (x1, y1)
        annotation, covered = rectangle(x0, y0, x1, y1, category_id=i, as_runs=i % 2 == 1)
        if i == 5:
            annotation["iscrowd"] = 1
        annotations.append(annotation)
        pixels.append(covered)
    return {"height": HEIGHT, "width": WIDTH, "annotations": annotations}, pixels


def decoded(annotation: dict) -> set:
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, HEIGHT, WIDTH))
    rows, columns = coco_mask.decode(segmentation).nonzero()
    return set(zip(columns.tolist(), rows.tolist()))


@pytest.mark.parametrize("seed", range(30))
def test_every_pixel_belongs_to_what_lies_on_top(seed):
    rng = np.random.default_rng(seed)
    record, pixels = random_record(rng)
    objects = [random_object(rng, 10 + i) for i in range(int(rng.integers(0, 5)))]
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    before = copy.deepcopy(record), image.copy()
    found = pasted_record(record, objects, box_mode=XYXY)
    painted = pasted_image(image, objects)
    assert record == before[0]
    assert np.array_equal(image, before[1])

    top: dict[tuple[int, int], int] = {}  # pixel -> object on it
    for y in range(HEIGHT):
        for x in range(WIDTH):
            colour = image[y, x].tolist()
            for number, one in enumerate(objects):
                row, column = y - one.y, x - one.x
                h, w = one.crop.mask.shape
                if 0 <= row < h and 0 <= column < w and one.crop.mask[row, column]:
                    top[x, y] = number
                    colour = one.crop.pixels[row, column].tolist()
            assert painted[y, x].tolist() == colour, (x, y)

    expected = []
    for annotation, own in zip(record["annotations"], pixels):
        left = own if annotation.get("iscrowd") else {p for p in own if p not in top}
        if left:
            expected.append((annotation, left, left == own))
    for number, one in enumerate(objects):
        left = {p for p, owner in top.items() if owner == number}
        if left:
            expected.append(({"category_id": one.category_id, "iscrowd": 0}, left, False))
    assert len(found["annotations"]) == len(expected)
    for after, (annotation, left, as_before) in zip(found["annotations"], expected):
        assert decoded(after) == left
        if as_before:
            assert after == annotation
            continue
        columns, rows = zip(*left)
        assert after["bbox"] == [min(columns), min(rows), max(columns) + 1, max(rows) + 1]
        assert after["bbox_mode"] == XYXY
        kept = {k: v for k, v in after.items() if k not in ("bbox", "bbox_mode", "segmentation")}
        assert kept.items() <= annotation.items()


def whole(category_id: int) -> PlacedObject:
    """An object that covers the image."""
    shape = (HEIGHT, WIDTH)
    crop = Crop(np.zeros((*shape, 3), np.uint8), np.ones(shape, bool))
    return PlacedObject(category_id, crop, 0, 0)


def test_what_is_hidden_goes_and_what_has_no_mask_stays():
    hidden, _ = rectangle(2, 2, 5, 6, category_id=0)
    bare = {"bbox": [1.0, 1, 2, 2], "bbox_mode": XYWH, "category_id": 1}
    record = {"height": HEIGHT, "width": WIDTH, "annotations": [hidden, bare]}
    found = pasted_record(record, [whole(2), whole(3)], box_mode=XYXY)
    assert found["annotations"][0] is bare
    assert [one["category_id"] for one in found["annotations"]] == [1, 3]


#: contiguous -> id of the lists
IDS = {0: 7, 1: 3, 2: 20, 3: 4}


@pytest.mark.parametrize(
    ("negative", "incomplete", "pasted", "expected"),
    [
        ([20, 4], [7], [2], ([4], [7])),  # verified absent before: known all the same
        ([4], [7], [2], ([4], [7, 20])),  # nothing was known
        ([4], [], [0], ([4], [])),  # annotated
        ([4], [7], [0], ([4], [7])),  # annotated, not exhaustively
        ([], [], [2, 3, 2], ([], [20, 4])),
        ([4], [7], [], ([4], [7])),
    ],
)
def test_lists(negative, incomplete, pasted, expected):
    annotation, _ = rectangle(2, 2, 5, 6, category_id=0)
    record = {"height": HEIGHT, "width": WIDTH, "annotations": [annotation]}
    record |= {"neg_category_ids": negative, "not_exhaustive_category_ids": incomplete}
    objects = [whole(c) for c in pasted]
    found = pasted_record(record, objects, box_mode=XYXY, category_ids=IDS)
    assert (found["neg_category_ids"], found["not_exhaustive_category_ids"]) == expected
    assert (record["neg_category_ids"], record["not_exhaustive_category_ids"]) == (
        negative,
        incomplete,
    )
    exhaustive = pasted_record(record, objects, box_mode=XYXY, category_ids=IDS, exhaustive=True)
    assert exhaustive["not_exhaustive_category_ids"] == incomplete


def test_a_record_without_lists_gets_none():
    record = {"height": HEIGHT, "width": WIDTH, "annotations": []}
    found = pasted_record(record, [whole(1)], box_mode=XYXY)
    assert found.keys() == record.keys()
