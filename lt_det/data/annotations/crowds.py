"""Crowds: annotations of many objects at once, which are neither trained on nor evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# How exports write that a flag is not set, in small letters.
_FALSE_TEXTS = ("", "0", "0.0", "false", "no", "none", "null")


def is_crowd(annotation: Mapping[str, Any]) -> bool:
    """Return whether an annotation is marked as a crowd; a flag written as text counts as meant.

    Absent, None, 0, "0" and "false" are no crowd; all other values are one.
    """
    flag = annotation.get("iscrowd", 0)
    if isinstance(flag, str):
        return flag.strip().lower() not in _FALSE_TEXTS
    return bool(flag)
