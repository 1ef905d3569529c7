"""Settings for the long tail: group limits and the losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lt_det.data.sampling.repeat_threshold import BALANCED, MANY_CLASSES, imbalance
from lt_det.data.stats.frequency_groups import frequency_groups


@dataclass(frozen=True)
class Limits:
    """Limits of the frequency groups.

    Attributes:
        rare_max: most images of a rare, or few-shot, class.
        common_max: most images of a common, or medium-shot, class.
        reason: why these.
    """

    rare_max: int
    common_max: int
    reason: str


def group_limits(
    image_counts: Sequence[int],
    *,
    usual: tuple[int, int] = (10, 100),
    rule: str = "LVIS's rule",
    names: tuple[str, str, str] = ("rare", "common", "frequent"),
) -> Limits:
    """Return the usual limits, or thirds of the classes where those leave a group empty.

    Args:
        image_counts: K numbers of training images.
        usual: most images of a rare, and of a common class.
        rule: what the usual ones are called.
        names: of the groups, from the rarest.
    """
    groups = frequency_groups(image_counts, rare_max=usual[0], common_max=usual[1])
    empty = [name for name, group in zip(names, "rcf") if group not in groups]
    if not empty:
        return Limits(*usual, f"{rule}; no group is empty")
    found = _thirds(image_counts)
    missing = " and ".join(empty)
    if found is None:
        return Limits(
            *usual,
            f"{rule}; {missing} stay{'s' if len(empty) == 1 else ''} empty: too few classes of "
            "different frequency for three groups",
        )
    return Limits(
        *found, f"thirds of the classes: {rule}, {usual[0]} and {usual[1]}, leaves {missing} empty"
    )


def _thirds(image_counts: Sequence[int]) -> tuple[int, int] | None:
    """Return limits that part the classes most evenly in three, None if there are none."""
    counts = sorted(image_counts)
    levels = sorted(set(counts))
    if len(levels) < 3:
        return None
    at_most = {level: sum(count <= level for count in counts) for level in levels}
    rare = min(levels[:-2], key=lambda level: abs(at_most[level] - len(counts) / 3))
    above = [level for level in levels[:-1] if level > rare]
    common = min(above, key=lambda level: abs(at_most[level] - 2 * len(counts) / 3))
    return rare, common


@dataclass(frozen=True)
class Losses:
    """Losses of both stages.

    Attributes:
        first: of the first stage.
        second: of the second; "" where the tail needs none.
        reason: of the first.
        second_reason: of the second.
    """

    first: str
    second: str
    reason: str
    second_reason: str


def detection_losses(image_counts: Sequence[int], *, federated: bool) -> Losses:
    """Return sigmoid losses for many classes or incomplete labels, else softmax ones.

    Args:
        image_counts: K numbers of training images.
        federated: whether images list classes that they were checked for, as LVIS's do.
    """
    number, ratio = len(image_counts), imbalance(image_counts)
    if federated or number >= MANY_CLASSES:
        why = "not every class was looked for in every image" if federated else f"{number} classes"
        first, second, kind = "sigmoid_ce", "balanced_sigmoid", "Sigmoid"
        reason = f"sigmoid, as in BALMS on LVIS: {why}, so classes should not compete for a region"
    else:
        first, second, kind = "softmax_ce", "balanced_softmax", "Softmax"
        reason = f"softmax: {number} classes that were all looked for in every image"
    if number < 2 or ratio < BALANCED:
        return Losses(first, "", reason, "")
    return Losses(
        first,
        second,
        reason,
        f"Balanced {kind} (BALMS, arXiv:2007.10740): the most frequent class has {ratio:.4g} times "
        "the images of the rarest",
    )


def classification_losses(image_counts: Sequence[int]) -> Losses:
    """Return cross-entropy, then Balanced Softmax if the classes are long-tailed."""
    ratio = imbalance(image_counts)
    reason = "cross-entropy learns the features; the second stage corrects for the tail"
    if len(image_counts) < 2 or ratio < BALANCED:
        return Losses("softmax_ce", "", f"the classes differ in frequency by {ratio:.3g} only", "")
    return Losses(
        "softmax_ce",
        "balanced_softmax",
        reason,
        f"Balanced Softmax (BALMS, arXiv:2007.10740): the most frequent class has {ratio:.4g} "
        "times the images of the rarest",
    )
