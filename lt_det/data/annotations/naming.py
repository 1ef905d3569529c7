"""Name annotations in a message: how many there are, the first, and what is doubtful in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lt_det.shown_text import for_terminal

#: Metadata entry of a data set whose classes are those of a training set, matched by name.
MATCHED = "classes_matched_by_name"

# Offenders named in a message: enough to find the cause, few enough to read.
NUM_NAMED = 5


def named(
    annotations: Sequence[Mapping[str, Any]], rows: np.ndarray | Sequence[int], *, show: str = ""
) -> str:
    """Return e.g. ``2 of 40 annotations, first annotation 3 of image 1: [0, 0, -1, 5]``.

    A verb may come between the two: see :func:`first_named`.

    Args:
        annotations: of a json.
        rows: indices, or ``(M,)`` bool, of those meant.
        show: key whose value is given with each.
    """
    rows = np.asarray(rows)
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    first = first_named(annotations, rows, show=show)
    return f"{len(rows)} of {len(annotations)} annotations, first {first}"


def first_named(
    annotations: Sequence[Mapping[str, Any]], rows: np.ndarray | Sequence[int], *, show: str = ""
) -> str:
    """Return e.g. ``annotation 3 of image 1: [0, 0, -1, 5]``, of the first of the indices."""
    first = []
    for row in map(int, rows[:NUM_NAMED]):
        one = annotations[row]
        number = one.get("id")
        label = f"annotation #{row}" if number is None else f"annotation {shortened(number)}"
        first.append(f"{label} of image {shortened(one.get('image_id'))}")
        if show:
            first[-1] += f": {shortened(one.get(show))}"
    return ", ".join(first)


def shortened(value: Any) -> str:
    """Return a value of a json as one line of at most 60 characters, which any terminal shows."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except RecursionError:
        return f"a {type(value).__name__} nested too deeply to show"
    except ValueError:  # Python refuses to write thousands of digits
        return "a number of thousands of digits"
    text = for_terminal(text[:200])
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class Doubt:
    """What is wrong with some annotations of a json.

    Attributes:
        kind: short name, for machines.
        what: in words.
        rows: int64 indices of the annotations.
        advice: what happens to them, or what to do.
        show: key whose value is given with each.
        is_error: whether they cannot be used.
        misleads: whether a training learns the wrong thing from them, though it does not stop.
    """

    kind: str
    what: str
    rows: np.ndarray
    advice: str
    show: str = ""
    is_error: bool = False
    misleads: bool = False

    def first(self, annotations: Sequence[Mapping[str, Any]]) -> str:
        """Return the first of them with their ids, see :func:`first_named`."""
        return first_named(annotations, self.rows, show=self.show)

    def text(self, annotations: Sequence[Mapping[str, Any]]) -> str:
        """Return one line."""
        return f"{self.what} in {named(annotations, self.rows, show=self.show)}; {self.advice}"
