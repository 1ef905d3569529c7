"""Checks of the annotations of a COCO- or LVIS-format json before anything uses them.

Pure functions. A message names the data set, the key and the first offenders, so that the file
can be corrected without a debugger.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.annotations.box_checks import FARTHEST, box_array, box_findings
from lt_det.data.annotations.crowds import crowd_warnings, is_crowd
from lt_det.data.annotations.mask_checks import MASK_PROBLEMS, mask_is_usable, mask_problem
from lt_det.data.annotations.mask_place_checks import mask_place_doubts
from lt_det.data.annotations.naming import NUM_NAMED, Doubt
from lt_det.data.annotations.run_lengths import wrong_run_lengths
from lt_det.data.annotations.schema import check_entries, check_fields


def box_is_valid(bbox: Any, *, box_mode: int = 1) -> bool:
    """Return whether a box has finite numbers and no negative size. An area of 0 is allowed.

    Numbers beyond 2**53 are none: they are not exact, and 64 bits do not hold them all.

    Args:
        bbox: 4 numbers (5 if rotated), pixels or fractions of the image.
        box_mode: value of Detectron2's ``BoxMode``: 0 and 2 are corners, 1, 3 and 4 have width
            and height in third and fourth place. Default: as in COCO's and LVIS's files.
    """
    try:
        if len(bbox) != (5 if box_mode == 4 else 4) or not all(map(math.isfinite, bbox)):
            return False
        if any(abs(number) > FARTHEST for number in bbox):
            return False
    except (TypeError, OverflowError):  # None, a number, text among the numbers, or 10**400
        return False
    if box_mode in (0, 2):
        return bool(bbox[2] >= bbox[0] and bbox[3] >= bbox[1])
    return bool(bbox[2] >= 0 and bbox[3] >= 0)


def check_unique(values: Iterable[Any], *, what: str) -> None:
    """Raise if a value occurs twice.

    Raises:
        ValueError: says ``what`` and the first repeated values.
    """
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(
            f"{what} must differ from each other, {len(repeated)} occur more than once, "
            f"first {repeated[:NUM_NAMED]}"
        )


def is_trained_on(annotation: Mapping[str, Any]) -> bool:
    """Return whether Detectron2 trains on an annotation of a json: its mapper drops crowds."""
    return not is_crowd(annotation) and mask_is_usable(annotation.get("segmentation"))


def check_categories(categories: Any, *, name: str) -> None:
    """Raise unless every category has its own integer ``id`` and its own ``name``.

    Args:
        categories: the json's list.
        name: data set, for messages.

    Raises:
        ValueError: names the data set, the key and the first offenders.
    """
    where = f"data set {name!r}: 'categories' of the json"
    if not isinstance(categories, list) or not categories:
        raise ValueError(f"{where} must be a list with at least one category")
    check_entries(categories, of="categories", name=name)
    check_unique((category["id"] for category in categories), what=f"{where}: 'id'")
    check_unique((category["name"] for category in categories), what=f"{where}: 'name'")


def check_annotations(json_dict: Mapping[str, Any], *, name: str) -> list[str]:
    """Raise unless a COCO- or LVIS-format json can be counted, trained on and evaluated.

    The one place where annotations are judged: counting, training and evaluation call it.

    Args:
        json_dict: has ``images``, ``annotations`` and ``categories``.
        name: data set, for messages.

    Returns:
        What is doubtful, one text each, with counts and the first annotations; for
        :func:`~lt_det.data.warn_once.warn_of`.

    Raises:
        ValueError: for a missing key, a field of a wrong type, an empty image list, repeated
            category or image ids, repeated category names, an annotation of an unknown image or
            category, a box with a NaN, an infinite number or a negative size, boxes that are
            corners, fractions or parts of 100 or 1000, or a mask that is none or a fraction of its
            image. Names the first offenders.
    """
    where = f"data set {name!r}: the json"
    missing = [key for key in ("images", "annotations", "categories") if key not in json_dict]
    if missing:
        raise ValueError(
            f"{where} must have the keys images, annotations and categories, {missing} missing; "
            "a file without annotations (a test split) has no statistics"
        )
    images, annotations = json_dict["images"], json_dict["annotations"]
    check_categories(json_dict["categories"], name=name)
    check_fields(json_dict, name=name)
    if not images:
        raise ValueError(f"{where} has an empty image list ('images')")
    check_unique((image.get("id") for image in images), what=f"{where}: 'id' of 'images'")
    sizes = {image.get("id"): (image.get("width"), image.get("height")) for image in images}
    category_ids = {category["id"] for category in json_dict["categories"]}
    wrong, boxes = wrong_annotations(annotations, sizes, category_ids)
    for found in wrong:
        raise ValueError(
            f"{where}: '{found.show}' of {len(found.rows)} of {len(annotations)} annotations "
            f"{found.what}, first {found.first(annotations)}; {found.advice}"
        )
    rows = image_size_rows(sizes, [one["image_id"] for one in annotations])
    doubts = box_findings(boxes, rows, annotations)
    if not any(doubt.is_error for doubt in doubts):
        doubts += mask_place_doubts(annotations, boxes, rows)
    for doubt in doubts:
        if doubt.is_error:
            raise ValueError(f"{where}: {doubt.text(annotations)}")
    warnings = [doubt.text(annotations) for doubt in doubts]
    return warnings + crowd_warnings(annotations)


def wrong_annotations(
    annotations: Sequence[Mapping[str, Any]],
    sizes: Mapping[Any, tuple[Any, Any]],
    category_ids: Container[Any],
) -> tuple[list[Doubt], np.ndarray]:
    """Return everything that makes an annotation unusable by itself, and ``(M, 4)`` boxes.

    Args:
        annotations: M of the json.
        sizes: id of each of its images -> width and height as the json has them.
        category_ids: of its categories.

    Returns:
        One for each kind that occurs, with the rows of all offenders; and float64 boxes, 0 where
        there is none.
    """
    boxes, is_box = box_array([one.get("bbox") for one in annotations], box_is_valid)
    masks = (one.get("segmentation") for one in annotations)
    problems = [None if mask is None else mask_problem(mask) for mask in masks]
    found = []
    for key, kind, wrong, expected in (
        (
            "image_id",
            "unknown-image",
            [one.get("image_id") not in sizes for one in annotations],
            f"is not the id of any of 'images'{_as_text(annotations, 'image_id', sizes)}",
        ),
        (
            "category_id",
            "unknown-category",
            [one.get("category_id") not in category_ids for one in annotations],
            "is not the id of any of 'categories'"
            + _as_text(annotations, "category_id", category_ids),
        ),
        (
            "bbox",
            "no-box",
            ~is_box,
            "is not [x, y, width, height] of finite numbers with width and height >= 0, none "
            "beyond 2**53",
        ),
        *(
            ("segmentation", f"mask-{problem}", [one == problem for one in problems], text)
            for problem, text in MASK_PROBLEMS.items()
            if problem in problems
        ),
    ):
        rows = np.flatnonzero(np.asarray(wrong, dtype=bool))
        if len(rows):
            found.append(
                Doubt(kind, expected, rows, "correct or remove them", show=str(key), is_error=True)
            )
    return found + wrong_run_lengths(annotations, sizes), boxes


def _as_text(annotations: Sequence[Mapping[str, Any]], key: str, ids: Container[Any]) -> str:
    """Return what to add where a reference is the text of an id that is there, or the reverse."""
    for value in dict.fromkeys(one.get(key) for one in annotations):
        if value in ids:
            continue
        if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20:
            if int(value) in ids:
                return f" (the text {value!r} is not the number {int(value)}, which is one)"
        elif type(value) is int and abs(value) < 10**19 and str(value) in ids:
            return f" (the number {value} is not the text '{value}', which is one)"
    return ""


def image_size_rows(sizes: Mapping[Any, tuple[Any, Any]], image_ids: Sequence[Any]) -> np.ndarray:
    """Return ``(M, 2)`` float64 width and height for each image id; nan where they are no sizes.

    Args:
        sizes: image id -> width and height as the json has them.
        image_ids: M of them.
    """
    numbers = {
        image_id: size if all(_is_size(side) for side in size) else (math.nan, math.nan)
        for image_id, size in sizes.items()
    }
    table = [numbers[image_id] for image_id in image_ids]
    return np.array(table, dtype=np.float64).reshape(-1, 2)


def _is_size(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and math.isfinite(value) and value > 0
    except OverflowError:
        return False
