"""Annotations of one json: ids, boxes, crowds, areas and absent fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lt_det.data.annotations.areas import area_doubts, area_is_text, image_sizes, mended_areas
from lt_det.data.annotations.box_checks import box_findings
from lt_det.data.annotations.checks import (
    image_size_rows,
    wrong_annotations,
)
from lt_det.data.annotations.crowds import HINT, LOST, MANY, is_clear, is_crowd, share_text
from lt_det.data.annotations.mask_place_checks import mask_place_doubts
from lt_det.data.annotations.mask_places import FINE, mask_place
from lt_det.data.annotations.naming import Doubt
from lt_det.data.inspection.findings import Finding, Harm, of_annotations, of_doubt
from lt_det.data.inspection.ids import is_int, repeated
from lt_det.data.inspection.mended_masks import box_of_mask, can_be_nested
from lt_det.data.inspection.object_copies import copy_findings

_UNKNOWN = ("unknown-image", "unknown-category")


def annotation_findings(
    file: str,
    content: Mapping[str, Any],
    mended: Sequence[Mapping[str, Any]],
    *,
    uses_masks: bool = True,
) -> list[Finding]:
    """Return what is wrong with the annotations of a json, masks left out where they fit.

    Args:
        file: the json, for the findings.
        content: lists ``images``, ``annotations`` and ``categories`` of dicts.
        mended: the same annotations, mended; they say which troubles mending ends.
        uses_masks: whether a training may learn them.
    """
    images, annotations = content["images"], content["annotations"]
    sizes = {image.get("id"): (image.get("width"), image.get("height")) for image in images}
    categories = {category.get("id") for category in content["categories"]}
    if not annotations:
        return [
            Finding(
                "error",
                "no-annotations",
                file,
                "there is not one annotation",
                "a test split without ground truth can neither be trained on nor evaluated",
            )
        ]
    wrong, boxes = wrong_annotations(annotations, sizes, categories)
    found: list[Finding] = []
    unusable = np.zeros(len(annotations), dtype=bool)
    for doubt in wrong:
        unusable[doubt.rows] = True
        found += of_doubt(file, annotations, doubt, mendable=_is_mended(doubt, annotations, mended))
    good = [one for one, bad in zip(annotations, unusable) if not bad]
    rows = image_size_rows(sizes, [one["image_id"] for one in good])
    doubts = box_findings(boxes[~unusable], rows, good)
    if not any(doubt.is_error for doubt in doubts):
        doubts += mask_place_doubts(good, boxes[~unusable], rows)
    for doubt in doubts:
        if not uses_masks:
            doubt = replace(doubt, misleads=False)
        fixed = doubt.kind == "mask-fractions" and _in_pixels(mended, unusable, doubt)
        found += of_doubt(file, good, doubt, mendable=fixed)
    found += _narrow(file, good, boxes[~unusable])
    return found + _ids(file, annotations) + _flags(file, annotations) + _areas(file, content)


def _narrow(
    file: str, annotations: Sequence[Mapping[str, Any]], boxes: np.ndarray
) -> list[Finding]:
    sides = boxes[:, 2:]
    rows = (sides < 1).any(axis=1) & (sides > 0).all(axis=1)
    if rows.all():
        return []  # fractions of the image, or a set of dots
    return of_annotations(
        file, annotations, rows, harm="note", kind="box-narrow", show="bbox",
        what="'bbox' is narrower than a pixel",
        advice="slips of the hand? Such an object is hardly learned, and it is evaluated",
    )  # fmt: skip


def _is_mended(
    doubt: Doubt,
    annotations: Sequence[Mapping[str, Any]],
    mended: Sequence[Mapping[str, Any]],
) -> bool:
    """Return whether all offenders of a kind are gone in the mended annotations."""
    kind, rows = doubt.kind, doubt.rows
    if kind in ("mask-flat", "mask-points"):
        return all(can_be_nested(annotations[row].get("segmentation")) for row in rows)
    if kind == "no-box":
        return all(
            annotations[row].get("bbox") in (None, [])
            and box_of_mask(annotations[row].get("segmentation")) is not None
            for row in rows
        )
    if kind in _UNKNOWN and len(mended) == len(annotations):
        key = "image_id" if kind == "unknown-image" else "category_id"
        return all(mended[row].get(key) != annotations[row].get(key) for row in rows)
    return False


def _in_pixels(mended: Sequence[Mapping[str, Any]], unusable: np.ndarray, doubt: Doubt) -> bool:
    """Return whether mending writes all masks in pixels that were fractions."""
    rows = np.flatnonzero(~unusable)[doubt.rows]
    places = [mask_place(mended[r].get("segmentation"), mended[r].get("bbox")) for r in rows]
    return all(place == FINE for place in places)


def _ids(file: str, annotations: Sequence[Mapping[str, Any]]) -> list[Finding]:
    ids = [one.get("id") for one in annotations]
    absent = [i for i, value in enumerate(ids) if value is None]
    twice = repeated(value for value in ids if value is not None)
    texts = [i for i, value in enumerate(ids) if value is not None and not is_int(value)]
    return [
        *of_annotations(
            file, annotations, [i for i, value in enumerate(ids) if value in twice],
            harm="error", kind="repeated-annotation-id", what="'id' occurs more than once",
            advice="the evaluation would drop one of each two: give every annotation its own id",
            mendable=True,
        ),
        *of_annotations(
            file, annotations, texts, harm="warning", kind="annotation-id-type",
            what="'id' is no whole number", advice="other tools stop at it", mendable=True,
        ),
        *of_annotations(
            file, annotations, absent, harm="note", kind="absent-annotation-id",
            what="no 'id'", advice="lt_det does without, other tools do not", mendable=True,
        ),
        *copy_findings(file, annotations),
    ]  # fmt: skip


def _flags(file: str, annotations: Sequence[Mapping[str, Any]]) -> list[Finding]:
    unclear = np.array([not is_clear(one) for one in annotations], dtype=bool)
    strange = np.array([one.get("iscrowd", 0) not in (0, 1, None) for one in annotations])
    crowds = np.array([is_crowd(one) for one in annotations], dtype=bool)
    many = crowds.sum() > MANY * len(annotations)
    found = of_annotations(
        file, annotations, strange & ~unclear, harm="warning", kind="iscrowd-type", show="iscrowd",
        what="'iscrowd' is not 0 or 1", mendable=True,
        advice=f"{(strange & ~unclear & crowds).sum()} of these are taken as crowds, which are not "
        "trained on: write 0 or 1",
    )  # fmt: skip
    found += of_annotations(
        file, annotations, unclear, harm="warning", kind="iscrowd-unclear", show="iscrowd",
        what="'iscrowd' is neither 0 nor 1, nor a text for one of the two",
        advice=f"{(unclear & crowds).sum()} of these are taken as crowds, which are not trained "
        "on. Which one is meant is a guess: write 0 or 1",
    )  # fmt: skip
    if crowds.all():
        found += of_annotations(
            file, annotations, crowds, harm="error", kind="all-crowds",
            what=f"all of them are crowds; {LOST}",
            advice=HINT,
        )  # fmt: skip
    elif many:
        found += of_annotations(
            file, annotations, crowds, harm="warning", kind="many-crowds",
            what=f"{share_text(crowds)} are crowds; {LOST}", advice=HINT,
        )  # fmt: skip
    else:
        found += of_annotations(
            file, annotations, crowds, harm="note", kind="crowds", what="crowds", advice=LOST
        )
    absent = ["iscrowd" not in one for one in annotations]
    if any(absent) and not all(absent):
        found += of_annotations(
            file, annotations, np.array(absent), harm="note", kind="absent-iscrowd",
            what="no 'iscrowd', which others have", advice="taken as 0", mendable=True,
        )  # fmt: skip
    return found


def _areas(file: str, content: Mapping[str, Any]) -> list[Finding]:
    annotations = content["annotations"]
    rows = mended_areas(annotations, image_sizes(content["images"]))[1]
    doubts = area_doubts(annotations, rows)
    texts = [row for row, one in enumerate(annotations) if area_is_text(one.get("area"))]
    texts = sorted(set(texts) - set(rows.tolist()))
    absent = [row for row in rows.tolist() if annotations[row].get("area") is None]
    wrong = [row for row in rows.tolist() if annotations[row].get("area") is not None]
    taken = "lt_det takes the area of the mask, else of the box"
    cases: list[tuple[list[int], Harm, str, str]] = [
        (wrong, "warning", "wrong-area", "'area' is no positive number in px that the image "
            "holds, though box or mask are not empty"),
        (absent, "note", "absent-area", "no 'area'"),
    ]  # fmt: skip
    found = of_annotations(
        file, annotations, texts, harm="warning", kind="area-type", show="area", mendable=True,
        what="'area' is text in place of a number", advice="lt_det reads it, other tools stop",
    )  # fmt: skip
    found += [one for doubt in doubts for one in of_doubt(file, annotations, doubt)]
    for rows_, harm, kind, what in cases:
        found += of_annotations(
            file, annotations, rows_, harm=harm, kind=kind, what=what, mendable=True,
            advice=f"{taken}; other tools take such objects for small ones, or for none",
            show="area" if kind == "wrong-area" else "",
        )  # fmt: skip
    return found
