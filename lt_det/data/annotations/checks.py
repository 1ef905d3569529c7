"""Checks of annotations as they come from a COCO- or LVIS-format json, before anything uses them.

Pure functions. An error names the data set, the key and the first offenders, so that the file
can be corrected without a debugger.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tqdm import tqdm

# Offenders named in an error: enough to find the cause, few enough to read.
NUM_NAMED = 5

# How exports write that a flag is not set, in small letters.
_FALSE_TEXTS = ("", "0", "0.0", "false", "no", "none", "null")


def box_is_valid(bbox: Any, *, box_mode: int = 1) -> bool:
    """Return whether a box has finite numbers and no negative size. An area of 0 is allowed.

    Args:
        bbox: 4 numbers (5 if rotated), pixels or fractions of the image.
        box_mode: value of Detectron2's ``BoxMode``: 0 and 2 are corners, 1, 3 and 4 have width
            and height in third and fourth place. Default: as in COCO's and LVIS's files.
    """
    try:
        if len(bbox) != (5 if box_mode == 4 else 4) or not all(map(math.isfinite, bbox)):
            return False
    except TypeError:  # None, a number, or text among the numbers
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


def is_crowd(annotation: Mapping[str, Any]) -> bool:
    """Return whether an annotation is marked as a crowd; a flag written as text counts as meant.

    Absent, None, 0, "0" and "false" are no crowd; all other values are one.
    """
    flag = annotation.get("iscrowd", 0)
    if isinstance(flag, str):
        return flag.strip().lower() not in _FALSE_TEXTS
    return bool(flag)


def mask_is_usable(segmentation: Any) -> bool:
    """Return False for polygons none of which has three points.

    Detectron2's COCO reader drops such an annotation. No segmentation at all is fine (boxes
    only), and so is run-length encoding.
    """
    if isinstance(segmentation, list) and segmentation:
        return any(map(polygon_is_valid, segmentation))
    return True


def polygon_is_valid(polygon: Any) -> bool:
    """Return whether a flat list ``x0, y0, x1, y1, ...`` has three finite points or more."""
    try:
        # The sum is finite if all numbers are, and a hundred million are summed in a second.
        return len(polygon) >= 6 and len(polygon) % 2 == 0 and math.isfinite(sum(polygon))
    except TypeError:  # a number, or lists or text in place of numbers
        return False


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
    bad = [
        category
        for category in categories
        if not isinstance(category, dict)
        or not isinstance(category.get("id"), int)
        or not isinstance(category.get("name"), str)
    ]
    if bad:
        raise ValueError(
            f"{where} must each have an integer 'id' and a text 'name', not so for {len(bad)}, "
            f"first {bad[:NUM_NAMED]}"
        )
    check_unique((category["id"] for category in categories), what=f"{where}: 'id'")
    check_unique((category["name"] for category in categories), what=f"{where}: 'name'")


def check_annotations(json_dict: Mapping[str, Any], *, name: str) -> None:
    """Raise unless a COCO- or LVIS-format json can be counted and trained on.

    Args:
        json_dict: has ``images``, ``annotations`` and ``categories``.
        name: data set, for messages.

    Raises:
        ValueError: for a missing key, an empty image list, repeated category or image ids,
            repeated category names, an annotation of an unknown image or category, or a box with
            a NaN, an infinite number or a negative size. Names the first offenders.
    """
    where = f"data set {name!r}: the json"
    missing = [key for key in ("images", "annotations", "categories") if key not in json_dict]
    if missing:
        raise ValueError(
            f"{where} must have the keys images, annotations and categories, {missing} missing; "
            "a file without annotations (a test split) has no statistics"
        )
    check_categories(json_dict["categories"], name=name)
    if not json_dict["images"]:
        raise ValueError(f"{where} has an empty image list ('images')")
    image_ids = [image.get("id") for image in json_dict["images"]]
    check_unique(image_ids, what=f"{where}: 'id' of 'images'")
    category_ids = {category["id"] for category in json_dict["categories"]}
    known_images = set(image_ids)
    offenders: dict[str, list[dict[str, Any]]] = {"image_id": [], "category_id": [], "bbox": []}
    for annotation in tqdm(
        json_dict["annotations"], desc=f"Checking {name}", unit="annotation", delay=2, leave=False
    ):
        if annotation.get("image_id") not in known_images:
            offenders["image_id"].append(annotation)
        if annotation.get("category_id") not in category_ids:
            offenders["category_id"].append(annotation)
        if not box_is_valid(annotation.get("bbox")):
            offenders["bbox"].append(annotation)
    expected = {
        "image_id": "is not the id of any of 'images'",
        "category_id": "is not the id of any of 'categories'",
        "bbox": "is not [x, y, width, height] of finite numbers with width and height >= 0",
    }
    for key, bad in offenders.items():
        if bad:
            first = ", ".join(
                f"annotation {one.get('id')} of image {one.get('image_id')}: {one.get(key)}"
                for one in bad[:NUM_NAMED]
            )
            raise ValueError(
                f"{where}: '{key}' of {len(bad)} annotations {expected[key]}, first {first}; "
                "correct or remove them"
            )
