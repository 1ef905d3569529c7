"""Confusion between classes as rows, from rare to frequent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lt_det.data.stats.frequency_groups import GROUP_NAMES
from lt_det.evaluation.analysis.confusion import Confusion
from lt_det.evaluation.lvis.average_precision import CategoryAP

#: Columns of a row, in order.
COLUMNS = (
    *("category_id", "name", "group", "detected_id", "detected_name", "detected_group"),
    *("objects", "certain"),
)
_GROUPS: tuple[str | None, ...] = (*GROUP_NAMES, None)


def confusion_rows(confusion: Confusion, categories: Sequence[CategoryAP]) -> list[dict[str, Any]]:
    """Return one dictionary a pair of different classes: the :data:`COLUMNS`.

    First come objects of rare classes that are taken for frequent ones; then by objects.

    Args:
        confusion: of the classes.
        categories: K.
    """
    rows = []
    columns = (confusion.classes, confusion.detected, confusion.numbers, confusion.certain)
    for k, other, number, certain in zip(*(column.tolist() for column in columns)):
        if k == other:
            continue
        own, detected = categories[k], categories[other]
        row = (
            own.category_id, own.name, own.group,
            detected.category_id, detected.name, detected.group,
            number, certain,
        )  # fmt: skip
        rows.append(dict(zip(COLUMNS, row)))

    def rank(row: dict[str, Any]) -> tuple[int, int, int, int, int]:
        return (
            _GROUPS.index(row["group"]),
            -_GROUPS.index(row["detected_group"]),
            -row["objects"],
            row["category_id"],
            row["detected_id"],
        )

    return sorted(rows, key=rank)


def confusion_groups(
    confusion: Confusion, groups: Sequence[str | None]
) -> dict[str, dict[str, int]]:
    """Return group -> number of objects by what they are first detected as.

    "right": as what they are; "r", "c", "f": as another class of that group; "missed": not at all.
    Groups without classes are left out.

    Args:
        confusion: of the classes.
        groups: "r", "c" or "f" of each class.
    """
    of_class = np.array([group or "" for group in groups])
    own, detected = of_class[confusion.classes], of_class[confusion.detected]
    right = confusion.classes == confusion.detected
    table = {}
    for group in GROUP_NAMES:
        if not (of_class == group).any():
            continue
        wrong = {
            other: int(confusion.numbers[(own == group) & (detected == other) & ~right].sum())
            for other in GROUP_NAMES
        }
        table[group] = {
            "right": int(confusion.numbers[(own == group) & right].sum()),
            **wrong,
            "missed": int(confusion.missed[of_class == group].sum()),
        }
    return table
