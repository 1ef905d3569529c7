"""Post-processing on the GPU: Detectron2's detections to the last bit, and the CPU's."""

from __future__ import annotations

from functools import partial

import post_processing
import torch

from gpu_check.device import DEVICE, SMALL
from gpu_check.results import Results

CLASSES = (80, 1203, 13_204)
#: Detections that rounding may turn, of 300: an overlap at the threshold, two scores in a tie.
TURNED = 3

KINDS = (
    "softmax head, {} classes, untrained, class-agnostic",
    "softmax head, {} classes, trained, class-specific",
    "sigmoid head, {} classes, half precision, class-agnostic",
    "RetinaNet, {} classes, trained",
)
#: Boxes or scores of so many classes do not fit: 57,600 anchors, 1,000 regions of 4 coordinates.
TOO_LARGE = ("class-specific", "RetinaNet")


def cases() -> list[str]:
    """Return the names of the cases, as :func:`post_processing.build` takes them."""
    return [
        kind.format(f"{count:,}")
        for count in CLASSES
        for kind in KINDS
        if count < CLASSES[-1] or not any(word in kind for word in TOO_LARGE)
        if not (SMALL and "RetinaNet" in kind and count > CLASSES[0])
    ]


def set_up() -> None:
    """Set the device and the size of the cases."""
    post_processing.DEVICE = torch.device(DEVICE)
    if SMALL:
        post_processing.PROPOSALS = 25


def run(results: Results, seconds: float) -> None:  # noqa: ARG001
    set_up()
    for name in cases():
        results.check(f"as Detectron2: {name}", partial(as_stock, name))
        if not name.startswith("RetinaNet"):
            results.check(f"as on the CPU: {name}", partial(as_on_the_cpu, name))


def as_stock(name: str) -> str:
    post_processing.check(post_processing.build(name))
    return "equal to the last bit"


def as_on_the_cpu(name: str) -> str:
    found = []
    for device in ("cpu", DEVICE):
        post_processing.DEVICE = torch.device(device)
        try:
            instances, rows = post_processing.build(name)["ours"]()
        finally:
            post_processing.DEVICE = torch.device(DEVICE)
        classes = instances[0].pred_classes.tolist()
        found.append(set(zip(rows[0].tolist(), classes)))
    differing = len(found[0] ^ found[1]) // 2 + abs(len(found[0]) - len(found[1]))
    said = f"{differing} of {len(found[0])} detections differ, allowed {TURNED}"
    assert differing <= TURNED, said
    return said
