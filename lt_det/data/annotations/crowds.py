"""Crowds: annotations of many objects at once, which are neither trained on nor evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.annotations.naming import first_named, named

# How exports write that a flag is not set, in small letters.
_FALSE_TEXTS = ("", "0", "0.0", "false", "no", "none", "null")
_TRUE_TEXTS = ("1", "1.0", "true", "yes")

#: Share of annotations from which on crowds are too many: COCO has 1 in 100, LVIS none.
MANY = 0.1
#: What becomes of crowds, and why there may be many.
LOST = "they are neither trained on nor evaluated"
HINT = (
    "set 'iscrowd' to 0 where each is one object (brush masks of CVAT and exports of SAM come as "
    "run-length encoding with 1)"
)


def is_crowd(annotation: Mapping[str, Any]) -> bool:
    """Return whether an annotation is marked as a crowd; a flag written as text counts as meant.

    Absent, None, 0, "0" and "false" are no crowd; all other values are one.
    """
    flag = annotation.get("iscrowd", 0)
    if isinstance(flag, str):
        return flag.strip().lower() not in _FALSE_TEXTS
    return bool(flag)


def is_clear(annotation: Mapping[str, Any]) -> bool:
    """Return whether the flag says which of the two is meant; -1, 0.5 and 2 do not."""
    flag = annotation.get("iscrowd", 0)
    if isinstance(flag, str):
        return flag.strip().lower() in _FALSE_TEXTS + _TRUE_TEXTS
    return flag is None or flag in (0, 1)


def crowd_warnings(annotations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is doubtful about the flags of a json, one text each."""
    flags = [one.get("iscrowd", 0) for one in annotations]
    strange = np.array([flag not in (0, 1, None) for flag in flags], dtype=bool)
    crowds = np.array([is_crowd(one) for one in annotations], dtype=bool)
    found = []
    if strange.any():
        found.append(
            f"'iscrowd' is not 0 or 1 in {named(annotations, strange, show='iscrowd')}; "
            f"{(strange & crowds).sum()} of these are taken as crowds"
        )
    if len(crowds) and crowds.all():
        found.append(f"all {len(crowds)} annotations are crowds; {LOST}: {HINT}")
    elif crowds.sum() > MANY * len(crowds):
        found.append(
            f"{share_text(crowds)} of the annotations are crowds, first "
            f"{first_named(annotations, np.flatnonzero(crowds))}; {LOST}: {HINT}"
        )
    return found


def share_text(rows: np.ndarray) -> str:
    """Return the share of an ``(M,)`` bool as text, in whole percent."""
    return f"{100 * rows.mean():.0f} %"
