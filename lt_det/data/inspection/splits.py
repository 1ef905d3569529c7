"""Splits against each other: classes by name and id, and classes of one only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lt_det.data.annotations.crowds import is_crowd
from lt_det.data.annotations.naming import NUM_NAMED
from lt_det.data.inspection.findings import Finding, Harm


def split_findings(
    train: Sequence[tuple[str, Mapping[str, Any]]],
    val: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    root: str | None = None,
) -> list[Finding]:
    """Return what does not fit between files.

    Args:
        train: path and content of each training json, mended.
        val: of each that is evaluated.
        root: category that is only the parent of the others.
    """
    if not train:
        return []
    first, known = train[0][0], _names(train[0][1], root)
    found = []
    for file, content in train[1:]:
        names = _names(content, root)
        if list(names) != list(known):
            found.append(
                _finding(
                    "error", "classes-differ", file, first, known, names,
                    "data sets trained on together must have the same classes in the same order "
                    "of ids: write the same 'categories' into both",
                )
            )  # fmt: skip
    trained = set(known)
    for file, content in val:
        names = _names(content, root)
        counts = _objects(content)
        unknown = [name for name, key in names.items() if name not in trained and counts.get(key)]
        if unknown:
            found.append(
                Finding(
                    "error", "class-not-trained", file,
                    "objects are of classes that the training set lacks",
                    "list the class in 'categories' of the training json too, give it the same "
                    "name, or take its objects out",
                    len(unknown), len(names), "classes",
                    tuple(f"{name} ({counts[names[name]]} objects)"
                          for name in unknown[:NUM_NAMED]),
                )
            )  # fmt: skip
        lacking = [name for name in known if name not in names]
        if lacking:
            found.append(
                Finding(
                    "warning", "class-not-in-val", file,
                    "the training set has classes that are not in 'categories' here",
                    "lt_det evaluates the others, matched by name",
                    len(lacking), len(known), "classes", tuple(lacking[:NUM_NAMED]),
                )
            )  # fmt: skip
        elif list(names) != list(known):
            found.append(
                _finding(
                    "warning", "class-ids-differ", file, first, known, names,
                    "lt_det matches them by name, other tools take one class for the other",
                )
            )  # fmt: skip
        without = [name for name, key in names.items() if name in trained and not counts.get(key)]
        if without:
            found.append(
                Finding(
                    "warning", "class-without-val-object", file,
                    "no object here of classes of the training set",
                    "their AP is undefined (nan), the means are over the others",
                    len(without), len(known), "classes", tuple(without[:NUM_NAMED]),
                )
            )  # fmt: skip
    return found


def _names(content: Mapping[str, Any], root: str | None) -> dict[str, Any]:
    """Return class name -> id in the order of the ids."""
    categories = [c for c in content["categories"] if c.get("name") != root or root is None]
    return {
        str(c.get("name")): c.get("id")
        for c in sorted(categories, key=lambda c: _rank(c.get("id")))
    }


def _rank(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, (int, float))
    return not number, value if number else 0, str(value)


def _objects(content: Mapping[str, Any]) -> dict[Any, int]:
    """Return category id -> number of objects; crowds are none."""
    counts: dict[Any, int] = {}
    for one in content["annotations"]:
        if is_crowd(one):
            continue
        counts[one.get("category_id")] = counts.get(one.get("category_id"), 0) + 1
    return counts


def _finding(
    harm: Harm,
    kind: str,
    file: str,
    other: str,
    known: Mapping[str, Any],
    names: Mapping[str, Any],
    advice: str,
) -> Finding:
    pairs = [
        f"class {k} is {a!r} there and {b!r} here"
        for k, (a, b) in enumerate(zip(known, names))
        if a != b
    ]
    if len(known) != len(names):
        pairs.insert(0, f"{len(known)} classes there, {len(names)} here")
    for where, ours, others in (("here", names, known), ("there", known, names)):
        only = [repr(name) for name in ours if name not in others]
        if only and len(known) != len(names):
            more = ", ..." if len(only) > NUM_NAMED else ""
            pairs[0] += f" (only {where}: {', '.join(only[:NUM_NAMED])}{more})"
    return Finding(
        harm, kind, file, f"classes in the order of their ids are not those of {other}", advice,
        len(pairs), 0, "differences", tuple(pairs[:NUM_NAMED]),
    )  # fmt: skip
