"""Results that look like a mistake, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lt_det.evaluation.analysis.confusion import Confusion

# Rare classes have fewer objects to learn from: so far above the frequent ones they seldom are.
_POINTS_ABOVE = 10.0
# Share of a class's objects that one wrong class takes, and share of the classes, of at least so
# many, for which that is so.
_TAKEN, _OF_CLASSES, _LEAST_CLASSES = 0.5, 0.5, 3


def suspicions(
    groups: Mapping[str, Mapping[str, object]], confusion: Confusion, names: Sequence[str]
) -> list[str]:
    """Return a sentence for each result that looks like a mistake.

    Args:
        groups: "all", "r", "c", "f" -> "AP" and "AP_interval".
        confusion: of the classes.
        names: of the K classes.
    """
    found = []
    rare, frequent = (groups.get(group, {}).get("AP") for group in "rf")
    if isinstance(rare, float) and isinstance(frequent, float) and rare > frequent + _POINTS_ABOVE:
        found.append(
            f"APr {rare:.1f} is far above APf {frequent:.1f}, which is unusual: are the classes of "
            "the statistics, the json and the model in the same order?"
        )
    swapped = _swapped(confusion, len(names))
    if len(swapped):
        k, other = swapped[0]
        found.append(
            f"most objects of {len(swapped)} classes are first detected as one other class, such "
            f"as {names[k]!r} as {names[other]!r}: are the classes of the model and the json in "
            "the same order?"
        )
    return found


def _swapped(confusion: Confusion, num_classes: int) -> list[tuple[int, int]]:
    """Return (class, other) where most objects are taken for one other, if that is so of most."""
    overlapped = np.bincount(confusion.classes, weights=confusion.numbers, minlength=num_classes)
    there = int((overlapped > 0).sum())
    wrong = np.flatnonzero(
        (confusion.classes != confusion.detected)
        & (confusion.numbers > _TAKEN * overlapped[confusion.classes])
    )
    # One class that takes all is a poor model, not an order.
    others = len(np.unique(confusion.detected[wrong]))
    if there < _LEAST_CLASSES or min(len(wrong), others) < _OF_CLASSES * there:
        return []
    return list(zip(confusion.classes[wrong].tolist(), confusion.detected[wrong].tolist()))
