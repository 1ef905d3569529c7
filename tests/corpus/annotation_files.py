"""Annotation files with one thing wrong each, in COCO's and LVIS's format."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pycocotools.mask as mask_utils

SIDE = 64  # of an image, px
HUGE = 10**400  # no float holds it
BEYOND = 10**20  # no int64 holds it
NAN, INF = float("nan"), float("inf")
NUL, HALF = "a\0b", "a\ud800b"  # a text no C library takes; half of a character

#: Doors, see tests/corpus/doors.py.
DOORS = ("statistics", "training", "test set", "ground truth", "check-data")
ALL: frozenset[str] = frozenset((*DOORS, "detections"))
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Case:
    """A file.

    Attributes:
        name: what is wrong.
        content: of the file.
        message: regular expression that a refusal holds.
        may_pass: doors at which it is right to be let in: what is wrong plays no role there.
    """

    name: str
    content: bytes
    message: str
    may_pass: frozenset[str] = NONE


def good() -> dict[str, Any]:
    """Three images, five objects, three classes, every field there."""
    images = [
        {
            "id": i,
            "file_name": f"{i}.png",
            "width": SIDE,
            "height": SIDE,
            "neg_category_ids": [3],
            "not_exhaustive_category_ids": [],
        }
        for i in (1, 2, 3)
    ]
    annotations = [
        {
            "id": k,
            "image_id": image,
            "category_id": category,
            "bbox": [4.0 * k, 6.0, 20.0, 24.0],
            "area": 480.0,
            "iscrowd": 0,
            "segmentation": [
                [4.0 * k, 6.0, 4.0 * k + 20.0, 6.0, 4.0 * k + 20.0, 30.0, 4.0 * k, 30.0]
            ],
        }
        for k, (image, category) in enumerate([(1, 1), (1, 2), (2, 1), (3, 1), (3, 2)], start=1)
    ]
    categories = [
        {
            "id": c,
            "name": f"class {c}",
            "synonyms": [f"class {c}"],
            "frequency": "rcf"[c - 1],
            "image_count": [3, 2, 0][c - 1],
            "instance_count": [3, 2, 0][c - 1],
        }
        for c in (1, 2, 3)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def cases() -> Iterator[Case]:
    """Yield all of them."""
    yield from _files()
    yield from _lists()
    yield from _images()
    yield from _annotations()
    yield from _segmentations()
    yield from _categories()


def _files() -> Iterator[Case]:
    text = json.dumps(good())
    for name, content, message in (
        ("empty file", b"", "empty|no valid json"),
        ("blank file", b" \n ", "empty|no valid json"),
        ("half a file", text[: len(text) // 2].encode(), "no valid json|in the middle"),
        ("a list", b"[]", "json (object|holds a list)"),
        ("null", b"null", "NoneType"),
        ("a number", b"3", "got a int|holds a int"),
        ("a text", b'"images"', "got a str|holds a str"),
        ("100,000 brackets", b"[" * 100_000, "nested too deep"),
        ("100,000 lists", b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
        (
            "100,000 lists as annotations",
            b'{"images": [], "categories": [], "annotations": '
            + b"[" * 100_000
            + b"]" * 100_000
            + b"}",
            "nested too deep",
        ),
        (
            "100,000 lists as categories",
            b'{"images": [], "annotations": [], "categories": '
            + b"[" * 100_000
            + b"]" * 100_000
            + b"}",
            "nested too deep",
        ),
        ("100,000 objects", b'{"a":' * 100_000, "nested too deep"),
        ("bytes that are no utf-8", b'{"images": "\xff\xfe"}', "utf-8"),
        ("a number of 5,000 digits", b'{"images": ' + b"1" * 5000 + b"}", "json|4300|list"),
        ("zeros", b"\0" * 100, "json"),
        *(
            (f"{key} twice", f'{text[:-1]}, "{key}": []}}'.encode(), f"'{key}' is .*more than once")
            for key in ("images", "annotations", "categories")
        ),
        ("html", b"<html><body>404</body></html>", "json"),
    ):
        yield Case(f"file: {name}", content, message)


def _lists() -> Iterator[Case]:
    for key in ("images", "annotations", "categories"):
        for value in (None, 3, "x", {}, True):
            yield _changed(f"{key} is {value!r}", {key: value}, key)
        for value in (None, 3, "x", [], [1, 2], True, NAN):
            content = good()
            content[key][1] = value
            yield _case(f"an entry of {key} is {value!r}", content, key)
    content = good()
    content["images"] = []
    yield _case("no image", content, "images")


def _images() -> Iterator[Case]:
    for value in (None, "x", [1], {"a": 1}, True, 1.5, NAN, INF, HUGE, BEYOND):
        yield _image("id", value, "'?id'?")
    for value in (3, 1.5, True, ["1.png"], {"a": 1}, "", NUL, HALF, HUGE):
        yield _image("file_name", value, "file_name")
    for value in (3, ["x"], True, NUL, HALF):
        yield _image("coco_url", value, "coco_url")
    for key in ("width", "height"):
        for value in ("x", "64", [64], {"a": 1}, NAN, INF, -1, 0, None, 1.5, HUGE, BEYOND, 1e400):
            yield _image(key, value, "'?(width|height)'?", frozenset({"statistics"}))
    content = good()
    content["images"][0].update(width=100_000, height=100_000)
    yield _case(
        "an image of 1e5 x 1e5 pixels", content, "'?(width|height)'?", frozenset({"statistics"})
    )
    for key in ("neg_category_ids", "not_exhaustive_category_ids"):
        for value in (
            None, 3, "12", True, {"a": 1}, [None], ["1"], ["x"], [1.5], [NAN], [[1]], [{}],
            [HUGE], [BEYOND], [True],
        ):  # fmt: skip
            yield _image(key, value, key)


def _annotations() -> Iterator[Case]:
    for value in ([1], {"a": 1}):
        yield _annotation("id", value, "'id'|ids")
    for value in (None, "x", 1.5, HUGE, -3):  # the evaluation numbers them anew
        yield _annotation("id", value, "'id'", ALL)
    for key in ("image_id", "category_id"):
        for value in (None, "x", "1", [1], {"a": 1}, 1.5, NAN, HUGE, BEYOND, -1, 99):
            yield _annotation(key, value, f"{key}|ids that are")
        content = good()
        del content["annotations"][1][key]
        yield _case(f"annotation without {key}", content, key)
    for value in (
        None, 3, "x", "1234", {"a": 1}, {}, [], [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, None, 4],
        ["1", "2", "3", "4"], [1, 2, NAN, 4], [1, INF, 3, 4], [1, 2, -3, 4], [HUGE, 2, 3, 4],
        [1, 2, HUGE, 4], [[1, 2, 3, 4]], [[1], [2], [3], [4]], True,
    ):  # fmt: skip
        yield _annotation("bbox", value, "bbox")
    # Of the mask or the box instead.
    for value in (None, "x", [1], {"a": 1}, NAN, INF, -1, 0, HUGE, True):
        yield _annotation("area", value, "area", ALL)
    # All but absent, null, 0, "0" and "false" are a crowd.
    for value in (None, "x", [1], {"a": 1}, NAN, -1, HUGE, True):
        yield _annotation("iscrowd", value, "iscrowd", ALL)
    for value in (None, "x", [1], HUGE):
        yield _annotation("ignore", value, "ignore", ALL)


def _segmentations() -> Iterator[Case]:
    square = [4.0, 6.0, 24.0, 6.0, 24.0, 30.0, 4.0, 30.0]
    for value in (
        3, "x", True, 1.5, HUGE, ["x"], [3], square, [square, None], [square, 3], [[None] * 6],
        [["x"] * 6], [[NAN] * 6], [[INF] + square[1:]], [[HUGE] + square[1:]],
        [[1e300] + square[1:]], [[1e9] + square[1:]], [[-1e9] + square[1:]], [[[square]]],
        [[[4, 6], [24, 6], [24, 30]]], [[4, 6], [24, 6], [24, 30]], {"a": 1},
        [{"a": 1}], {"size": [SIDE, SIDE]}, {"counts": [SIDE * SIDE]},
    ):  # fmt: skip
        yield _annotation("segmentation", value, "segmentation")
    for value in (None, [], {}):  # a box without a mask
        yield _annotation("segmentation", value, "mask|segmentation", ALL)
    for value in ([[1.0, 2.0]], [[]], [square, []], [square + [1.0]]):  # too short: left out
        yield _annotation("segmentation", value, "polygon|segmentation", ALL)
    full = SIDE * SIDE
    fits: Any = mask_utils.encode(_ones())["counts"].decode()
    for name, size, counts in (
        ("fits", [SIDE, SIDE], [10, full - 10]),
        ("fits, compressed", [SIDE, SIDE], fits),
    ):
        value = {"size": size, "counts": counts}
        yield _annotation("segmentation", value, "run-length", ALL, name=f"run lengths: {name}")
    for name, size, counts in (
        ("too few", [SIDE, SIDE], [10, 20]),
        ("too many", [SIDE, SIDE], [10, full]),
        ("far too many", [SIDE, SIDE], [10, 2**31]),
        ("beyond int64", [SIDE, SIDE], [BEYOND, 1]),
        ("no float", [SIDE, SIDE], [HUGE, 1]),
        ("negative", [SIDE, SIDE], [-10, full + 10]),
        ("null among them", [SIDE, SIDE], [10, None, full - 10]),
        ("text among them", [SIDE, SIDE], ["10", full - 10]),
        ("fractions", [SIDE, SIDE], [10.5, full - 10.5]),
        ("a list among them", [SIDE, SIDE], [[10], full - 10]),
        ("a number", [SIDE, SIDE], full),
        ("an object", [SIDE, SIDE], {"a": 1}),
        ("none", [SIDE, SIDE], []),
        ("null", [SIDE, SIDE], None),
        ("empty text", [SIDE, SIDE], ""),
        ("compressed, cut", [SIDE, SIDE], fits[:-1]),
        ("compressed, doubled", [SIDE, SIDE], fits * 2),
        ("compressed, other letters", [SIDE, SIDE], "hello \u00fc"),
        ("compressed, half a character", [SIDE, SIDE], HALF),
        ("compressed, NUL", [SIDE, SIDE], NUL),
        ("compressed, never ending", [SIDE, SIDE], "o" * 40),
        ("size of another image", [SIDE, SIDE + 1], [10, SIDE * (SIDE + 1) - 10]),
        ("size turned", [SIDE // 2, SIDE * 2], [10, full - 10]),
        ("size of 1e5 x 1e5", [100_000, 100_000], [10, 10**10 - 10]),
        ("size 0", [0, 0], [0]),
        ("size negative", [-SIDE, -SIDE], [10, full - 10]),
        ("size null", None, [10, full - 10]),
        ("size a number", SIDE, [10, full - 10]),
        ("size one number", [SIDE], [10, full - 10]),
        ("size three numbers", [SIDE, SIDE, 3], [10, full - 10]),
        ("size text", ["64", "64"], [10, full - 10]),
        ("size fractions", [64.5, 64.5], [10, full - 10]),
        ("size null within", [SIDE, None], [10, full - 10]),
        ("size huge", [HUGE, 1], [10, full - 10]),
        ("size nan", [NAN, SIDE], [10, full - 10]),
    ):
        value = {"size": size, "counts": counts}
        yield _annotation(
            "segmentation", value, "segmentation|run-length", name=f"run lengths: {name}"
        )


def _categories() -> Iterator[Case]:
    for value in (None, "x", "1", [1], {"a": 1}, True, 1.5, NAN, HUGE, BEYOND, 1):
        yield _category("id", value, "'?id'?")
    for value in (None, 3, [1], {"a": 1}, True, "class 1", NUL, HALF):
        yield _category("name", value, "name")
    for value in (None, 3, [1], [None], {"a": 1}, True):
        yield _category("synonyms", value, "synonyms")
    for value in (None, 3, [1], {"a": 1}, True, "R", "rare", "rr", "\x1b", ""):
        yield _category("frequency", value, "frequency")
    for key in ("image_count", "instance_count"):
        for value in (HUGE, BEYOND, -1):
            yield _category(key, value, "counts|image_count|instance_count")
        for value in (None, "x", [1], 1.5, NAN, True):  # counted instead
            yield _category(key, value, key, ALL)
    yield _category("supercategory", [1], "supercategory", ALL)
    yield _category("supercategory", HALF, "supercategory", ALL)


def _ones() -> Any:
    import numpy as np

    mask = np.zeros((SIDE, SIDE), dtype=np.uint8, order="F")
    mask[6:30, 4:24] = 1
    return mask


def _image(key: str, value: Any, message: str, may_pass: frozenset[str] = NONE) -> Case:
    return _entry("images", key, value, message, may_pass, f"{key} of an image is {value!r:.60}")


def _annotation(
    key: str, value: Any, message: str, may_pass: frozenset[str] = NONE, name: str = ""
) -> Case:
    name = name or f"{key} of an annotation is {value!r:.60}"
    return _entry("annotations", key, value, message, may_pass, name)


def _category(key: str, value: Any, message: str, may_pass: frozenset[str] = NONE) -> Case:
    name = f"{key} of a category is {value!r:.60}"
    return _entry("categories", key, value, message, may_pass, name)


def _entry(
    kind: str, key: str, value: Any, message: str, may_pass: frozenset[str], name: str
) -> Case:
    content = good()
    content[kind][1][key] = value
    return _case(name, content, message, may_pass)


def _changed(name: str, changes: dict[str, Any], message: str) -> Case:
    return _case(name, {**good(), **copy.deepcopy(changes)}, message)


def _case(name: str, content: Any, message: str, may_pass: frozenset[str] = NONE) -> Case:
    return Case(name, json.dumps(content).encode(), message, may_pass)
