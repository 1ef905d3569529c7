"""Files of detections with one thing wrong each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.corpus.annotation_files import (
    ALL,
    BEYOND,
    HALF,
    HUGE,
    INF,
    NAN,
    NONE,
    NUL,
    SIDE,
    Case,
    good,
)


def good_detections() -> list[dict[str, Any]]:
    """Every object of the good file, found, with box and mask."""
    import pycocotools.mask as mask_utils

    found = []
    for one in good()["annotations"]:
        mask = mask_utils.merge(mask_utils.frPyObjects(one["segmentation"], SIDE, SIDE))
        found.append(
            {
                "image_id": one["image_id"],
                "category_id": one["category_id"],
                "bbox": one["bbox"],
                "score": 0.9,
                "segmentation": {"size": [SIDE, SIDE], "counts": mask["counts"].decode()},
            }
        )
    return found


def detection_cases() -> Iterator[Case]:
    """Yield all of them."""
    for name, content, message in (
        ("empty file", b"", "no json of detections"),
        ("half a file", b'[{"image_id": 1', "no json of detections"),
        ("null", b"null", "list"),
        ("an object", b"{}", "list"),
        ("a number", b"3", "list"),
        ("100,000 brackets", b"[" * 100_000, "nested too deep"),
        ("100,000 lists", b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
        ("bytes that are no utf-8", b'["\xff"]', "utf-8"),
        ("a number of 5,000 digits", b"[" + b"1" * 5000 + b"]", "json of detections"),
    ):
        yield Case(f"detections: {name}", content, message)
    yield Case("detections: none", b"[]", "", ALL)
    for value in (None, 3, "x", [], [1], True, NAN):
        content: list[Any] = good_detections()
        content[1] = value
        yield _case(f"a record is {value!r}", content, "record 1")
    for key in ("image_id", "category_id"):
        for value in (
            None, "x", "1", [1], {"a": 1}, True, 1.5, NAN, INF, HUGE, BEYOND, 10**30, 99, -1,
        ):  # fmt: skip
            yield _record(key, value, f"{key}|not in the ground truth")
    for value in (None, "x", "0.5", [0.5], {"a": 1}, True, NAN, INF, HUGE):
        yield _record("score", value, "score")
    for value in (
        None, 3, "x", "1234", {"a": 1}, [], [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, None, 4],
        ["1", "2", "3", "4"], [1, 2, NAN, 4], [1, 2, INF, 4], [HUGE, 2, 3, 4], [[1, 2, 3, 4]],
        [1, 2, -3, 4], True, [True, 2, 3, 4],
    ):  # fmt: skip
        yield _record("bbox", value, "bbox|boxes")
    square = [4.0, 6.0, 24.0, 6.0, 24.0, 30.0, 4.0, 30.0]
    for value in (None, 3, "x", True, [], [square], square, {}, {"size": [SIDE, SIDE]}):
        yield _record("segmentation", value, "segmentation|mask")
    full = SIDE * SIDE
    fits = good_detections()[1]["segmentation"]["counts"]
    for name, size, counts in (
        ("a list", [SIDE, SIDE], [10, full - 10]),
        ("a number", [SIDE, SIDE], full),
        ("null", [SIDE, SIDE], None),
        ("empty", [SIDE, SIDE], ""),
        ("cut", [SIDE, SIDE], fits[:-1]),
        ("doubled", [SIDE, SIDE], fits * 2),
        ("other letters", [SIDE, SIDE], "hello \u00fc"),
        ("half a character", [SIDE, SIDE], HALF),
        ("NUL", [SIDE, SIDE], NUL),
        ("never ending", [SIDE, SIDE], "o" * 40),
        ("size of another image", [SIDE, SIDE + 1], fits),
        ("size turned", [SIDE // 2, SIDE * 2], fits),
        ("size 1e5 x 1e5", [100_000, 100_000], fits),
        ("size 0", [0, 0], fits),
        ("size null", None, fits),
        ("size a number", SIDE, fits),
        ("size one number", [SIDE], fits),
        ("size text", ["64", "64"], fits),
        ("size fractions", [64.5, 64.0], fits),
        ("size huge", [HUGE, SIDE], fits),
    ):
        value = {"size": size, "counts": counts}
        yield _record("segmentation", value, "segmentation|mask", name=f"run lengths: {name}")
    for key in ("image_id", "category_id", "score"):
        content = good_detections()
        del content[1][key]
        yield _case(f"a record without {key}", content, key)
    content = good_detections()
    del content[1]["bbox"], content[1]["segmentation"]
    yield _case("a record without box and mask", content, "bbox")


def _record(key: str, value: Any, message: str, name: str = "") -> Case:
    content = good_detections()
    content[1][key] = value
    return _case(name or f"{key} is {value!r:.60}", content, message)


def _case(name: str, content: Any, message: str, may_pass: frozenset[str] = NONE) -> Case:
    return Case(f"detections: {name}", json.dumps(content).encode(), message, may_pass)
