"""The analysis restated with loops, from the json and the records, for one IoU threshold."""

from __future__ import annotations

from typing import Any


def iou(one: list[float], other: list[float]) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    return common / (one[2] * one[3] + other[2] * other[3] - common)


def is_ignored(annotation: dict[str, Any]) -> bool:
    return bool(annotation.get("iscrowd") or annotation.get("ignore"))


def limited(rows: list[tuple], max_dets: int) -> list[bool]:
    """Return for each detection whether it is within the limit of its image."""
    within = [False] * len(rows)
    for image in {row[0] for row in rows}:
        own = [n for n, row in enumerate(rows) if row[0] == image]
        for n in sorted(own, key=lambda n: -rows[n][2])[:max_dets]:
            within[n] = True
    return within


def judged(content: dict[str, Any], rows: list[tuple], *, max_dets: int) -> list[tuple[str, Any]]:
    """Return for each detection its fate at IoU 0.5, and the annotation that it finds."""
    fates: list[tuple[str, Any]] = [("over_limit", None)] * len(rows)
    within = limited(rows, max_dets)
    exhaustive = not any("neg_category_ids" in image for image in content["images"])
    for image in content["images"]:
        for category in content["categories"]:
            k = category["id"]
            objects = [
                a
                for a in content["annotations"]
                if a["image_id"] == image["id"] and a["category_id"] == k
            ]
            own = [
                n
                for n, row in enumerate(rows)
                if row[0] == image["id"] and row[1] == k and within[n]
            ]
            known = exhaustive or objects or k in image["neg_category_ids"]
            is_open = k in image.get("not_exhaustive_category_ids", []) or any(
                a.get("iscrowd") for a in objects
            )
            taken: set[int] = set()
            for n in sorted(own, key=lambda n: -rows[n][2]):
                if not known:
                    fates[n] = ("unjudged", None)
                    continue
                best = None
                for to_ignore in (False, True):
                    for a in objects:
                        overlap = iou(rows[n][3], a["bbox"])
                        if is_ignored(a) != to_ignore or a["id"] in taken or overlap < 0.5:
                            continue
                        if best is None or (overlap >= best[0] and best[2] == to_ignore):
                            best = (overlap, a, to_ignore)
                if best is None:
                    fates[n] = ("excused" if is_open else "false", None)
                else:
                    taken.add(best[1]["id"])
                    fates[n] = ("on_ignored" if best[2] else "found", best[1])
    return fates


def error_kind(content: dict, rows: list[tuple], fates: list[tuple[str, Any]], n: int) -> str:
    """Return the kind of a false detection."""
    image, k, _, box = rows[n]
    objects = [a for a in content["annotations"] if a["image_id"] == image and not is_ignored(a)]
    found = {a["id"] for fate, a in fates if fate == "found"}
    same = max((iou(box, a["bbox"]) for a in objects if a["category_id"] == k), default=0)
    other = max((iou(box, a["bbox"]) for a in objects if a["category_id"] != k), default=0)
    used = [a for a in objects if a["category_id"] == k and a["id"] in found]
    if 0.1 <= same < 0.5:
        return "localisation"
    if other >= 0.5:
        return "classification"
    if max((iou(box, a["bbox"]) for a in used), default=0) >= 0.5:
        return "duplicate"
    return "background" if max(same, other) <= 0.1 else "both"


def first_detected(content: dict, rows: list[tuple], *, max_dets: int) -> list[tuple[dict, Any]]:
    """Return each object to find with the number of the detection that it is taken for, or None."""
    within = limited(rows, max_dets)
    result = []
    for a in content["annotations"]:
        if is_ignored(a):
            continue
        best = None
        for n, (image, _, score, box) in enumerate(rows):
            if not within[n] or image != a["image_id"] or iou(box, a["bbox"]) < 0.5:
                continue
            value = (score, iou(box, a["bbox"]), -n)
            if best is None or value > best[0]:
                best = (value, n)
        result.append((a, None if best is None else best[1]))
    return result
