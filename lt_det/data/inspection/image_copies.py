"""Copies of the same image file: in two splits, in two classes, or twice in one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from lt_det.data.annotations.naming import NUM_NAMED
from lt_det.data.inspection.equal_files import equal_files, resolved
from lt_det.data.inspection.findings import Finding, Harm
from lt_det.data.inspection.shared_images import LEAK


def copy_findings(
    sets: Sequence[tuple[str, bool, Sequence[str], np.ndarray, Sequence[str]]], *, content: bool
) -> list[Finding]:
    """Return findings about files that are one, whatever path leads there.

    Args:
        sets: source, whether it is trained on, N paths, ``(N,)`` labels and the class names.
        content: take files with the same bytes for one too; only those of equal length are read.
    """
    places: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, (_, _, paths, labels, names) in enumerate(sets):
        for place, label in zip(resolved(paths), labels.tolist()):
            places[place].append((number, names[label]))
    groups = equal_files(list(places)) if content else []
    both: dict[int, list[str]] = defaultdict(list)
    clashing: dict[int, list[str]] = defaultdict(list)
    twice: dict[int, list[str]] = defaultdict(list)
    for paths in [*groups, *([path] for path, where in places.items() if len(where) > 1)]:
        where = [(path, *place) for path in paths for place in places[path]]
        trained = [one for one in where if sets[one[1]][1]]
        for path, number, name in where:
            other = next((o for o in where if o[1:] != (number, name)), None)
            if other is not None and other[2] != name:
                clashing[number].append(f"{path} ({name}) = {other[0]} ({other[2]})")
            elif not sets[number][1] and trained:
                both[number].append(f"{path} = {trained[0][0]}")
        for path, number, name in where[1:]:
            if any(o[1:] == (number, name) and o[0] != path for o in where[:1]):
                twice[number].append(f"{path} = {where[0][0]}")
    cases: list[tuple[Harm, str, dict[int, list[str]], str, str]] = [
        ("warning", "image-of-two-classes", clashing, "the same file under two classes",
         "one of the labels is wrong: remove one"),
        ("warning", "image-in-both", both, "the image is trained on too", LEAK),
        ("note", "same-image-twice", twice, "the same file twice in its class",
         "it counts twice, and is drawn twice as often"),
    ]  # fmt: skip
    return [
        Finding(
            harm, kind, sets[number][0], what, advice, len(rows), len(sets[number][2]), "images",
            tuple(rows[:NUM_NAMED]),
        )
        for harm, kind, found, what, advice in cases
        for number, rows in sorted(found.items())
    ]  # fmt: skip
