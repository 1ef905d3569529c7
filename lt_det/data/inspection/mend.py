"""Mended copies of a json: all that can be put right without a guess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.annotations.areas import area_is_text, image_sizes, mended_areas
from lt_det.data.annotations.crowds import is_clear, is_crowd
from lt_det.data.annotations.mask_place_checks import fraction_in_pixels
from lt_det.data.annotations.schema import has_size
from lt_det.data.inspection.categories import root_entry
from lt_det.data.inspection.ids import (
    as_int,
    free_numbers,
    is_int,
    looked_up,
    repeated,
    size_of_texts,
    whole_numbers,
)
from lt_det.data.inspection.mended_masks import box_of_mask, nested


def mended_json(
    content: Mapping[str, Any],
    *,
    root: str | None = None,
    file_names: Mapping[int, str] | None = None,
    sizes: Mapping[int, tuple[int, int]] | None = None,
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return a mended copy of a json, and how many entries each kind of mending changed.

    The order of annotations and their number stay. Ids become whole numbers; repeated and absent
    annotation ids get new ones; entries of images and categories that are there twice are there
    once. A mask or box is written in COCO's way if it is clear which one is meant.

    Args:
        content: lists ``images``, ``annotations`` and ``categories`` of dicts; not changed.
        root: name of the category that is only the parent of all others; it is left out.
        file_names: row of an image -> its right ``file_name``.
        sizes: row of an image -> width and height in px, of those that lack them.
    """
    changes: dict[str, int] = {}
    images = [dict(image) for image in content["images"]]
    for row, name in (file_names or {}).items():
        images[row]["file_name"] = name
    _count(changes, "file names", len(file_names or {}))
    for row, (width, height) in (sizes or {}).items():
        images[row].update(width=width, height=height)
    for image in images:
        numbers = size_of_texts(image)
        if numbers is not None:
            image["width"], image["height"] = numbers
            _count(changes, "image sizes")
    _count(changes, "image sizes", len(sizes or {}))
    categories = [dict(category) for category in content["categories"]]
    parent = root_entry(content, root)
    if parent is not None:
        pairs = zip(content["categories"], categories)
        categories = [copy for one, copy in pairs if one is not parent]
        _count(changes, "root category", 1)
    annotations = [dict(annotation) for annotation in content["annotations"]]
    images = _without_copies(images, changes, "copies of images")
    categories = _without_copies(categories, changes, "copies of categories")
    _number(images, annotations, "image_id", changes)
    _number(categories, annotations, "category_id", changes, lists=images)
    _number_annotations(annotations, changes)
    pixels = image_sizes(images)
    for annotation in annotations:
        _mend_fields(annotation, changes)
        mask = fraction_in_pixels(
            annotation.get("segmentation"),
            annotation.get("bbox"),
            pixels.get(annotation.get("image_id")),
        )
        if mask is not None:
            annotation["segmentation"] = mask
            _count(changes, "masks")
    areas, rows = mended_areas(annotations, pixels)
    for row in rows.tolist():
        annotations[row]["area"] = float(areas[row])
    for row, annotation in enumerate(annotations):
        if area_is_text(annotation.get("area")):
            annotation["area"] = float(areas[row])
            _count(changes, "areas")
    _count(changes, "areas", len(rows))
    copy = {**content, "images": images, "annotations": annotations, "categories": categories}
    return copy, {name: count for name, count in changes.items() if count}


def _count(changes: dict[str, int], name: str, count: int = 1) -> None:
    changes[name] = changes.get(name, 0) + count


def _without_copies(
    entries: list[dict[str, Any]], changes: dict[str, int], name: str
) -> list[dict[str, Any]]:
    """Return the entries without those that equal an earlier one of the same id."""
    first: dict[Any, dict[str, Any]] = {}
    kept = []
    for entry in entries:
        if entry.get("id") in first and first[entry.get("id")] == entry:
            _count(changes, name)
            continue
        first.setdefault(entry.get("id"), entry)
        kept.append(entry)
    return kept


def _number(
    entries: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]],
    key: str,
    changes: dict[str, int],
    lists: Sequence[dict[str, Any]] = (),
) -> None:
    """Give images or categories whole numbers as ids, and their annotations the same."""
    ids = [entry.get("id") for entry in entries]
    if None in ids or repeated(ids):
        return  # which annotation belongs to which is unknown
    numbers = whole_numbers(ids)
    if numbers is None:
        return
    for entry in entries:
        if not is_int(entry["id"]):
            entry["id"] = numbers[entry["id"]]
            _count(changes, f"ids of {'images' if key == 'image_id' else 'categories'}")
    taken = set(numbers.values())
    for annotation in annotations:
        value = annotation.get(key)
        if is_int(value) and value in numbers:
            continue
        new = numbers[value] if value in numbers else as_int(value)
        if new in taken:
            annotation[key] = new
            _count(changes, f"{key} of annotations")
    for image in lists:
        for name in ("neg_category_ids", "not_exhaustive_category_ids"):
            if isinstance(image.get(name), list):
                image[name] = [
                    looked_up(one, numbers) if isinstance(one, (str, int, float)) else one
                    for one in image[name]
                ]


def _number_annotations(annotations: Sequence[dict[str, Any]], changes: dict[str, int]) -> None:
    """Keep the first annotation of each id; give all others, and those without, the next ones."""
    numbers = [as_int(one.get("id")) for one in annotations]
    free = free_numbers({number for number in numbers if number is not None})
    used: set[int] = set()
    for annotation, number in zip(annotations, numbers):
        if number is None or number in used:
            number = next(free)
        used.add(number)
        if annotation.get("id") != number or not is_int(annotation["id"]):
            annotation["id"] = number
            _count(changes, "ids of annotations")


def _mend_fields(annotation: dict[str, Any], changes: dict[str, int]) -> None:
    mask = nested(annotation.get("segmentation"))
    if mask is not annotation.get("segmentation"):
        annotation["segmentation"] = mask
        _count(changes, "masks")
    if annotation.get("bbox") in (None, []):
        box = box_of_mask(mask) if mask else None
        if box is not None:
            annotation["bbox"] = box
            _count(changes, "boxes, from masks")
    flag = annotation.get("iscrowd")
    if is_clear(annotation) and not (is_int(flag) and flag in (0, 1)):
        annotation["iscrowd"] = int(is_crowd(annotation))
        _count(changes, "iscrowd")


def rows_without_size(images: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return the int64 rows of images without a width or a height, or with none that can be."""
    wrong = [not has_size(one) and size_of_texts(one) is None for one in images]
    return np.flatnonzero(wrong)
