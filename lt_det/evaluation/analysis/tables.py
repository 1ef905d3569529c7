"""Rows as csv files."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from lt_det.shown_text import for_csv
from lt_det.storage.atomic_write import atomic_file


def write_rows(
    path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]], columns: Sequence[str]
) -> None:
    """Write rows as csv; what is None or not finite is empty.

    A name that a spreadsheet would take for a formula gets a ``'`` in front.

    Args:
        path: file.
        rows: dictionaries with at least the columns.
        columns: in order.
    """
    with atomic_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row[column]) for column in columns] for row in rows)


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return for_csv(value)
