"""Read an annotation json for boxes: polygons are cut out of the text before it is parsed.

Polygons are most of an LVIS json, and most of the time and the memory that parsing takes.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

import numpy as np

from lt_det.data.annotations.areas import area_is_usable
from lt_det.data.annotations.json_file import check_exists, read_annotation_json
from lt_det.data.annotations.mask_checks import mask_problem
from lt_det.data.annotations.repeated_lists import may_repeat_lists
from lt_det.storage.regular_file import open_regular

_SPACE = r"[ \t\r\n]*"
_COMMA = r", ?"
# A number of json that is less than a million.
_NUMBER = r"-?(?:0|[1-9][0-9]{0,5})(?:\.[0-9]+)?"
_POLYGON = rf"\[{_NUMBER}(?:{_COMMA}{_NUMBER}){{2,}}\]"
# Only what is no problem by :func:`mask_problem`: all else is parsed, and judged there. Within a
# text of the json a quotation mark has a backslash before it, so that no key ends with it.
_POLYGONS = re.compile(rf'"segmentation": ?\[{_POLYGON}(?:{_COMMA}{_POLYGON})*\]')
_WITHOUT = '"segmentation":null'
_OTHER_MASK = re.compile(rf'"segmentation"{_SPACE}:(?!null)')


def read_box_json(json_file: str | os.PathLike[str], *, name: str) -> dict[str, Any]:
    """Return the content of a COCO- or LVIS-format json without the masks that nothing needs.

    In their place is None, or nothing. They stay where something is wrong with them, or with the
    area of their annotation.

    Args:
        json_file: path.
        name: data set, for messages.

    Raises:
        FileNotFoundError: as :func:`~lt_det.data.annotations.json_file.read_annotation_json`.
        ValueError: likewise.
    """
    check_exists(json_file, name=name)
    content = None
    try:
        with open_regular(json_file, "r", encoding="utf-8-sig") as file:
            text = _POLYGONS.sub(_WITHOUT, file.read())
        has_masks = _OTHER_MASK.search(text)
        if not may_repeat_lists(json_file):  # else it is read below, which says so
            content = json.loads(text, object_hook=_with_needed_mask if has_masks else None)
    except (RecursionError, ValueError):
        pass  # said below, with the place in the file
    if not isinstance(content, dict) or not _areas_are_usable(content.get("annotations", [])):
        return read_annotation_json(json_file, name=name, object_hook=_with_needed_mask)
    return content


def _with_needed_mask(node: dict[str, Any]) -> dict[str, Any]:
    """Drop the mask of an annotation where it is not needed."""
    if area_is_usable(node.get("area")) and mask_problem(node.get("segmentation")) is None:
        node.pop("segmentation", None)
    return node


def _areas_are_usable(annotations: Any) -> bool:
    """Return whether no annotation needs its mask for its area."""
    try:
        areas = np.array([float(annotation["area"]) for annotation in annotations])
    except (KeyError, TypeError, ValueError, OverflowError):
        return False
    return bool((np.isfinite(areas) & (areas > 0)).all())
