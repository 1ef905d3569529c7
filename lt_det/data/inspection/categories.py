"""Categories of one json, and of several against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lt_det.data.annotations.naming import NUM_NAMED
from lt_det.data.inspection.findings import Finding, Harm
from lt_det.data.inspection.ids import as_int, colliding, is_int, repeated, whole_numbers


def category_findings(
    file: str, content: Mapping[str, Any], *, root: Mapping[str, Any] | None, train: bool
) -> list[Finding]:
    """Return what is wrong with the categories of a json.

    Args:
        file: the json, for the findings.
        content: lists ``categories`` and ``annotations`` of dicts.
        root: the category that is the parent of all others, see :func:`root_category`.
        train: whether it is trained on; what a file of evaluation lacks is said against that.
    """
    categories = content["categories"]
    if not categories:
        return [
            Finding("error", "no-categories", file, "'categories' is empty",
                    "list every class, with a whole number 'id' and a text 'name'")
        ]  # fmt: skip
    ids, names = [c.get("id") for c in categories], [c.get("name") for c in categories]
    twice_ids, twice_names = repeated(ids) - {None}, repeated(names) - {None}
    same_number = colliding(ids)
    folded = repeated({str(name): " ".join(str(name).lower().split()) for name in names}.values())
    cases: list[tuple[Harm, str, list[bool], str, str, bool]] = [
        (
            "error", "absent-category-id", [i is None for i in ids], "no 'id'",
            "give every class its own number, which 'category_id' of its annotations is", False,
        ),
        (
            "error", "category-id-type", [i is not None and not is_int(i) for i in ids],
            "'id' is no whole number of 64 bits", "write numbers, here and in 'category_id'",
            None not in ids and not twice_ids and whole_numbers(ids) is not None,
        ),
        (
            "error", "category-ids-collide", [row in same_number for row in range(len(ids))],
            "'id' is the same number as that of another, written otherwise (as text '7' and 7)",
            "give every class its own number, here and in 'category_id'", False,
        ),
        ("error", "repeated-category-id", [i in twice_ids for i in ids],
         "'id' occurs more than once", "give every class its own id", False),
        (
            "error", "category-name", [not isinstance(n, str) for n in names],
            "'name' is no text", "give every class a name", False,
        ),
        (
            "warning", "empty-category-name",
            [isinstance(n, str) and not n.strip() for n in names], "'name' is empty",
            "give every class a name: tables and pictures would show none", False,
        ),
        (
            "error", "repeated-category-name", [n in twice_names for n in names],
            "'name' occurs more than once",
            "rename one, or give the objects of both the same id and remove the other",
            not repeated(c.get("name") for c in categories if c is not root),
        ),
        (
            "warning", "similar-names",
            [n not in twice_names and " ".join(str(n).lower().split()) in folded for n in names],
            "'name' differs from another by capitals or spaces only", "one class or two?", False,
        ),
    ]  # fmt: skip
    found = []
    for harm, kind, wrong, what, advice, mendable in cases:
        rows = [row for row, is_wrong in enumerate(wrong) if is_wrong]
        if rows:
            found.append(_finding(file, categories, rows, harm, kind, what, advice, mendable))
    used = {None, *(one.get("category_id") for one in content["annotations"])}
    used |= {as_int(one) for one in used}  # texts that are numbers, which mending makes them
    empty = [row for row, c in enumerate(categories) if c.get("id") not in used and c is not root]
    if root is not None:
        row = next(row for row, c in enumerate(categories) if c is root)
        found.append(
            _finding(
                file, categories, [row], "warning", "root-category",
                "the parent of all others, as Roboflow writes it: no object is of it",
                "remove it, it would be one class more without an object", True,
            )
        )  # fmt: skip
    if train and empty and content["annotations"]:
        found.append(
            _finding(
                file, categories, empty, "warning", "class-without-object", "no object is of it",
                "it cannot be learned; its prior is that of one image", False,
            )
        )  # fmt: skip
    if len(categories) - (root is not None) == 1:
        found.append(
            Finding("note", "one-class", file, "there is one class only",
                    "no loss can balance it against others")
        )  # fmt: skip
    return found


def root_category(contents: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the name of a category without objects that all others name as their parent.

    Args:
        contents: of all splits. One of them at least must have it, in the others all name it as
            their parent, too: exports leave it out where it is not needed.
    """
    names = {
        category.get("name")
        for content in contents
        for category in content["categories"]
        if _is_top(category)
    }
    for name in sorted(filter(lambda one: isinstance(one, str), names)):
        roots = [root_entry(content, name) for content in contents]
        if any(roots) and all(
            root is not None or all(c.get("supercategory") == name for c in content["categories"])
            for root, content in zip(roots, contents)
        ):
            return str(name)
    return None


def root_entry(content: Mapping[str, Any], name: str | None) -> Mapping[str, Any] | None:
    """Return the category of a name without objects that all others name as their parent, or None.

    A class may have the name of its parent, as in an export of Roboflow with one class.
    """
    own = [c for c in content["categories"] if c.get("name") == name and _is_top(c)]
    others = [c for c in content["categories"] if not any(c is one for one in own)]
    # The annotations last: there may be a million, and a thousand names to try.
    is_root = (
        name is not None
        and len(own) == 1
        and len(others) > 0
        and all(c.get("supercategory") == name for c in others)
        and all(
            str(one.get("category_id")) != str(own[0].get("id")) for one in content["annotations"]
        )
    )
    return own[0] if is_root else None


def _is_top(category: Mapping[str, Any]) -> bool:
    return category.get("supercategory") in (None, "", "none")


def _finding(
    file: str,
    categories: Sequence[Mapping[str, Any]],
    rows: Sequence[int],
    harm: Harm,
    kind: str,
    what: str,
    advice: str,
    mendable: bool,
) -> Finding:
    first = tuple(
        f"category {categories[row].get('id')!r} ({categories[row].get('name')})"
        for row in rows[:NUM_NAMED]
    )
    return Finding(
        harm, kind, file, what, advice, len(rows), len(categories), "categories", first, mendable
    )
