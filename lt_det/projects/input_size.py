"""Input size of a detector, from the sizes of images and objects."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lt_det.projects.facts import DetectionFacts
from lt_det.projects.machine import Machine
from lt_det.projects.recipe import Setting

#: Objects below this side are COCO's small ones, which detectors find worst.
_SMALL = 32
#: Longer side over shorter one of Detectron2's 1333 x 800, and what is allowed for panoramas.
_ASPECT, _LONGEST_ASPECT = 1333 / 800, 3.0


def image_size(facts: DetectionFacts, machine: Machine) -> int:
    """Return the shorter side of the input: that of the images, larger for small objects."""
    cap = 800 if machine.device == "cuda" else 320
    size = min(cap, facts.short_side)
    if facts.object_side:
        side = facts.object_side * size / facts.short_side
        size = min(cap, size * min(2.0, max(1.0, _SMALL / max(side, 1.0))))
    return max(64, math.ceil(size / 32) * 32)


def longest_side(size: int, aspect: float) -> int:
    """Return the longer side that nine of ten images keep their shape in; both in pixels."""
    ratio = max(min(aspect, _LONGEST_ASPECT), _ASPECT if aspect > 1.2 else 1.0)
    return math.ceil(size * ratio / 32) * 32


def size_settings(
    facts: DetectionFacts, size: int, width: int, machine: Machine
) -> Sequence[Setting]:
    """Return INPUT for a shorter side and the longest longer one, in pixels."""
    limit = "800, Detectron2's" if machine.device == "cuda" else "320, for the CPU's sake"
    smallest = [round(size * share) for share in (0.8, 0.85, 0.9, 0.95, 1.0)]
    why = (
        f"the images' {facts.short_side:.0f} (median), objects of {facts.object_side:.0f} pixels "
        f"(median) enlarged towards {_SMALL}, at most {limit}"
    )
    return [
        Setting("INPUT.MIN_SIZE_TRAIN", smallest, f"0.8 to 1 of {size}; Detectron2's: 640 to 800"),
        Setting("INPUT.MIN_SIZE_TEST", size, f"shorter side: {why}"),
        Setting("INPUT.MAX_SIZE_TRAIN", width, f"nine of ten images have a ratio of sides up to "
                f"{facts.aspect:.2f}"),
        Setting("INPUT.MAX_SIZE_TEST", width, "likewise"),
    ]  # fmt: skip
