"""Checks of result records: detections in COCO's and LVIS's json format, before they are arrays.

NumPy would cut 1.5 to 1, take "0.5" for a number and stop at a ragged list without naming it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.annotations.naming import shortened
from lt_det.data.annotations.run_lengths import code_of, is_mask_size, sums_of_codes
from lt_det.data.annotations.schema import is_id


def check_records(records: Sequence[Any], *, has_boxes: bool, has_masks: bool) -> None:
    """Raise unless every record is one detection.

    Args:
        records: N, as the json has them.
        has_boxes: whether each needs a "bbox".
        has_masks: whether each needs a "segmentation".

    Raises:
        ValueError: names the key, the first record and its image.
    """
    rules: list[tuple[str, Callable[[Any], bool], str]] = [
        ("image_id", is_id, "a whole number that 64 bits hold"),
        ("category_id", is_id, "a whole number that 64 bits hold"),
        ("score", _is_finite, "a finite number"),
    ]
    if has_boxes:
        rules.append(("bbox", _is_box, "[x, y, width, height] of finite numbers, no size negative"))
    if has_masks:
        rules.append(
            (
                "segmentation",
                _is_code,
                "compressed run-length encoding, {'size': [height, width], 'counts': text}; "
                "pycocotools.mask.frPyObjects and encode make it",
            )
        )
    for index, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise ValueError(
                f"detections: record {index} must be an object with {[r[0] for r in rules]}, got "
                f"{shortened(record)}"
            )
        missing = [key for key, _, _ in rules if key not in record]
        if missing:
            raise ValueError(
                f"detections: record {index} lacks {missing}: {shortened(sorted(map(str, record)))}"
            )
    for key, fits, expected in rules:
        wrong = [i for i, record in enumerate(records) if not fits(record[key])]
        if wrong:
            _refuse(records, wrong, key, f"must be {expected}", count=len(wrong))
    if has_masks:
        _check_runs(records)


def _check_runs(records: Sequence[Mapping[str, Any]]) -> None:
    codes = [code_of(record["segmentation"]["counts"]) or b"" for record in records]
    sizes = [record["segmentation"]["size"] for record in records]
    pixels = np.array([height * width for height, width in sizes], dtype=np.int64)
    joined = np.frombuffer(b"".join(codes), dtype=np.uint8)
    sums = sums_of_codes(joined, np.array([len(code) for code in codes], dtype=np.int64))
    wrong = np.flatnonzero(sums != pixels).tolist()
    if wrong:
        what = "has 'counts' that are no run-length encoding, or do not add up to its 'size'"
        _refuse(records, wrong, "segmentation", what, count=len(wrong))


def _refuse(
    records: Sequence[Mapping[str, Any]], wrong: Sequence[int], key: str, what: str, *, count: int
) -> None:
    index = wrong[0]
    image = f" of image {shortened(records[index]['image_id'])}" if key != "image_id" else ""
    raise ValueError(
        f"detections: {key!r} {what}, not so in {count} of {len(records)} records, first record "
        f"{index}{image}: {shortened(records[index][key])}"
    )


def _is_finite(value: Any) -> bool:
    try:
        return (
            isinstance(value, (int, float, np.number))
            and type(value) is not bool
            and math.isfinite(value)
        )
    except OverflowError:
        return False


def _is_box(value: Any) -> bool:
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) != 4:
        return False
    return all(map(_is_finite, value)) and bool(value[2] >= 0 and value[3] >= 0)


def _is_code(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    return is_mask_size(value.get("size")) and bool(code_of(value.get("counts")))
