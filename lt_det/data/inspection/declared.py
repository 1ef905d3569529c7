"""What the categories of one json declare of themselves: counts and frequency groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lt_det.data.annotations.checks import is_trained_on
from lt_det.data.annotations.naming import NUM_NAMED, shortened
from lt_det.data.inspection.findings import Finding
from lt_det.data.stats.declared_counts import declared_counts
from lt_det.data.stats.frequency_groups import frequency_groups

_KEYS = ("image_count", "instance_count")


def declared_findings(file: str, content: Mapping[str, Any], *, train: bool) -> list[Finding]:
    """Return what is wrong with ``image_count``, ``instance_count`` and ``frequency``.

    Args:
        file: the json, for the findings.
        content: lists ``categories`` and ``annotations`` of dicts.
        train: whether it is trained on. LVIS's files of evaluation declare the counts of the
            training set, which are no fault.
    """
    categories = content["categories"]
    if not categories or not content["annotations"]:
        return []
    found = _frequencies(file, categories)
    if not train:
        return found
    found += _counts(file, content)
    if not found:
        found += _groups(file, content)
    return found


def _counts(file: str, content: Mapping[str, Any]) -> list[Finding]:
    categories = content["categories"]
    lacking = [c for c in categories if any(type(c.get(key)) is not int for key in _KEYS)]
    given = [c for c in categories if any(c.get(key) is not None for key in _KEYS)]
    if lacking and given:
        return [
            _of_categories(
                file, categories, [shortened(c.get("name")) for c in lacking], "note",
                "declared-counts-absent", "no whole number 'image_count' and 'instance_count', "
                "which others have", "lt_det counts the annotations of all",
            )
        ]  # fmt: skip
    declared = declared_counts(categories, content["annotations"])
    if declared is None or declared.verdict == "same":
        return []
    if declared.verdict == "more":
        kind = "declared-counts"
        advice = (
            "a training takes the declared numbers for its class prior, as it should for a part of "
            "LVIS; else they are of another version of the data: remove them, or set "
            "CLASS_STATS.SOURCE annotations. The table here has what is counted"
        )
    else:
        kind = "declared-counts-other"
        advice = (
            "lt_det counts the annotations, other tools take the declared numbers: correct or "
            "remove them"
        )
    return [
        _of_categories(
            file, categories, declared.differing, "warning", kind, declared.what(), advice
        )
    ]


def _frequencies(file: str, categories: Sequence[Mapping[str, Any]]) -> list[Finding]:
    with_it = [c for c in categories if c.get("frequency") is not None]
    if not with_it:
        return []
    # Other values than r, c and f are errors of their type, and are not here any more.
    lacking = [shortened(c.get("name")) for c in categories if c.get("frequency") is None]
    if not lacking:
        return []
    return [
        _of_categories(
            file, categories, lacking, "warning", "frequency-unknown",
            "no 'frequency' of r, c or f, which others have", "lt_det groups by counted images "
            "where it trains; an evaluation by the json alone stops there: add it, or remove it "
            "in all",
        )
    ]  # fmt: skip


def _groups(file: str, content: Mapping[str, Any]) -> list[Finding]:
    """Return the classes whose ``frequency`` is not the group of their number of images."""
    categories = content["categories"]
    if any(c.get("frequency") is None for c in categories):
        return []
    images: dict[Any, set[Any]] = {c.get("id"): set() for c in categories}
    for one in content["annotations"]:
        if one.get("category_id") in images and is_trained_on(one):
            images[one["category_id"]].add(one.get("image_id"))
    counts = [len(images[c.get("id")]) for c in categories]
    wrong = [
        f"{shortened(c.get('name'))}: {c['frequency']}, {group} by {count} images"
        for c, group, count in zip(categories, frequency_groups(counts), counts)
        if c["frequency"] != group
    ]
    if not wrong:
        return []
    return [
        _of_categories(
            file, categories, wrong, "warning", "frequency-differs",
            "'frequency' is not the group by LVIS's limits of the images that are here",
            "copied from another split or version? lt_det groups by the images that it counts, "
            "other tools by this: correct or remove it",
        )
    ]  # fmt: skip


def _of_categories(
    file: str,
    categories: Sequence[Mapping[str, Any]],
    offenders: Sequence[str],
    harm: Any,
    kind: str,
    what: str,
    advice: str,
) -> Finding:
    first = tuple(offenders[:NUM_NAMED])
    return Finding(
        harm, kind, file, what, advice, len(offenders), len(categories), "categories", first
    )
