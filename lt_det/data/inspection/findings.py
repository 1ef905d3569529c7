"""Findings of an inspection: what is wrong, how bad that is, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from lt_det.data.annotations.naming import NUM_NAMED, Doubt, first_named

Harm = Literal["error", "warning", "note"]
#: From the worst: training stops or learns the wrong thing; objects are lost or numbers mislead;
#: good to know.
HARMS: tuple[Harm, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One kind of trouble in one file.

    Attributes:
        harm: see :data:`HARMS`.
        kind: short name, the same in every version, for machines.
        file: the json.
        what: in words, without ids.
        advice: what to do, or what happens.
        count: offenders; 0 where they are not counted.
        total: of how many; 0 where that has no meaning.
        of: what is counted, as "annotations".
        first: the first offenders, with their ids.
        mendable: whether a mended copy is free of it.
    """

    harm: Harm
    kind: str
    file: str
    what: str
    advice: str
    count: int = 0
    total: int = 0
    of: str = ""
    first: tuple[str, ...] = ()
    mendable: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a json."""
        return {**asdict(self), "first": list(self.first)}

    def text(self) -> str:
        """Return one line without harm and file."""
        total = f" of {self.total}" if self.total else ""
        counted = f"{self.count}{total} {self.of}: " if self.count else ""
        first = f"; first {', '.join(self.first)}" if self.first else ""
        advice = self.advice if self.advice.startswith("lt_det") else _capital(self.advice)
        end = "" if advice.endswith(("?", ".")) else "."
        return f"{counted}{self.what}{first}. {advice}{end}"


def sorted_by_harm(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, the worst first, those with more offenders before others."""
    return sorted(findings, key=lambda one: (HARMS.index(one.harm), -one.count))


def has_error(findings: Iterable[Finding]) -> bool:
    """Return whether training would go wrong."""
    return any(one.harm == "error" for one in findings)


def of_annotations(
    file: str,
    annotations: Sequence[Mapping[str, Any]],
    rows: Sequence[int] | np.ndarray,
    *,
    harm: Harm,
    kind: str,
    what: str,
    advice: str,
    show: str = "",
    mendable: bool = False,
) -> list[Finding]:
    """Return a finding about the annotations at ``rows``, none if there are no rows.

    Args:
        file: the json.
        annotations: all of it.
        rows: indices, or ``(M,)`` bool.
        harm: see :class:`Finding`, as all that follow.
        kind: short name.
        what: in words.
        advice: what to do.
        show: key whose value is given with each.
        mendable: whether a mended copy is free of it.
    """
    rows = np.asarray(rows)
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    if not len(rows):
        return []
    first = tuple(first_named(annotations, [row], show=show) for row in rows[:NUM_NAMED].tolist())
    return [
        Finding(
            harm, kind, file, what, advice, len(rows), len(annotations), "annotations", first,
            mendable,
        )
    ]  # fmt: skip


def of_doubt(
    file: str,
    annotations: Sequence[Mapping[str, Any]],
    doubt: Doubt,
    *,
    mendable: bool = False,
) -> list[Finding]:
    """Return the finding that says what a checker of annotations found."""
    what = f"'{doubt.show}' {doubt.what}" if doubt.what.startswith(("is ", "has ")) else doubt.what
    return of_annotations(
        file,
        annotations,
        doubt.rows,
        harm="error" if doubt.is_error or doubt.misleads else "warning",
        kind=doubt.kind,
        what=what,
        advice=doubt.advice,
        show=doubt.show,
        mendable=mendable,
    )


def of_images(
    file: str,
    images: Sequence[Mapping[str, Any]],
    rows: Sequence[int],
    *,
    harm: Harm,
    kind: str,
    what: str,
    advice: str,
    details: Mapping[int, str] | None = None,
    mendable: bool = False,
) -> list[Finding]:
    """Return a finding about the images at ``rows``, none if there are no rows.

    Args:
        file: the json.
        images: all of it.
        rows: indices.
        harm: see :class:`Finding`, as all that follow.
        kind: short name.
        what: in words.
        advice: what to do.
        details: row -> what is to be said of it.
        mendable: whether a mended copy is free of it.
    """
    if not rows:
        return []
    details = details or {}
    first = tuple(
        f"image {images[row].get('id')} ({images[row].get('file_name')})"
        + (f": {details[row]}" if row in details else "")
        for row in rows[:NUM_NAMED]
    )
    return [
        Finding(harm, kind, file, what, advice, len(rows), len(images), "images", first, mendable)
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
