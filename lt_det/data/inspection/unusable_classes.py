"""Classes that have training objects, none of which a training uses."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from lt_det.data.annotations.areas import image_sizes
from lt_det.data.annotations.checks import box_is_valid
from lt_det.data.annotations.crowds import is_crowd
from lt_det.data.annotations.mask_checks import mask_is_usable, mask_problem
from lt_det.data.annotations.naming import NUM_NAMED, shortened
from lt_det.data.inspection.findings import Finding


def unusable_class_findings(file: str, content: Mapping[str, Any]) -> list[Finding]:
    """Return the classes all of whose objects are left out of a training, and whether all are.

    Args:
        file: the json, for the findings.
        content: lists ``images``, ``annotations`` and ``categories`` of dicts.
    """
    sizes = image_sizes(content["images"])
    reasons: defaultdict[Any, Counter[str]] = defaultdict(Counter)
    for one in content["annotations"]:
        reasons[one.get("category_id")][_reason(one, sizes.get(one.get("image_id")))] += 1
    totals = sum(reasons.values(), Counter())
    if not totals or set(totals) == {"crowds"}:
        return []  # said of all annotations together
    if not totals[""]:
        return [
            Finding(
                "error", "nothing-to-train", file,
                f"no object can be trained on: {_text(totals)}", "correct them",
                totals.total(), totals.total(), "annotations",
            )
        ]  # fmt: skip
    categories = content["categories"]
    lost = [
        f"{shortened(category.get('name'))} ({_text(reasons[category.get('id')])})"
        for category in categories
        if category.get("id") in reasons and not reasons[category.get("id")][""]
    ]
    if not lost:
        return []
    return [
        Finding(
            "warning", "class-without-usable-object", file,
            "a training leaves out all of its objects",
            "such a class cannot be learned: correct the objects, or remove the class",
            len(lost), len(categories), "categories", tuple(lost[:NUM_NAMED]),
        )
    ]  # fmt: skip


def _reason(annotation: Mapping[str, Any], size: tuple[int, int] | None) -> str:
    """Return why a training leaves an annotation out, "" if it does not or stops at it."""
    if is_crowd(annotation):
        return "crowds"
    mask = annotation.get("segmentation")
    box: Any = annotation.get("bbox")
    if mask_problem(mask) is None and not mask_is_usable(mask):
        return "without a polygon of three points"
    if not box_is_valid(box):
        return ""
    x, y, width, height = box
    if width == 0 or height == 0:
        return "boxes without width or height"
    try:
        apart = size is not None and not (
            x < size[1] and y < size[0] and x + width > 0 and y + height > 0
        )
    except TypeError:  # a size that is no number is said elsewhere
        return ""
    return "boxes outside their image" if apart else ""


def _text(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
