"""Training steps that are compared with Detectron2's, whole: a few losses, and the LVIS heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import overhead

from gpu_check.device import SMALL

RETINANET = {"MODEL.META_ARCHITECTURE": "LongTailRetinaNet"}

Step = Callable[[], None]


@dataclass(frozen=True)
class Comparison:
    """A detector of Detectron2, and ours with some losses in its place.

    Attributes:
        what: the detector.
        stock: options of Detectron2's side.
        ours: options of our side.
        losses: names of the losses of our side.
        target: wanted ratio of the times.
    """

    what: str
    stock: dict[str, Any]
    ours: dict[str, Any]
    losses: tuple[str, ...]
    target: float | None = None

    def stock_step(self, num_classes: int) -> Step:
        """Return Detectron2's step."""
        return overhead.stepper(num_classes, self.stock)

    def our_steps(self, num_classes: int) -> Iterator[tuple[str, Step]]:
        """Yield each loss and its step."""
        for loss in self.losses:
            yield loss, overhead.stepper(num_classes, {**self.ours, "LT_DET.LOSS": loss})


COMPARISONS = (
    Comparison(
        "R-CNN",
        overhead.STOCK_RCNN,
        overhead.RCNN,
        ("balanced_softmax", "softmax_eureka", "softmax_halted_focal"),
        overhead.STATELESS,
    ),
    Comparison(
        "RetinaNet",
        overhead.STOCK_RETINANET,
        RETINANET,
        ("focal", "halted_focal", "eureka"),
        overhead.STATELESS,
    ),
    Comparison(
        "Mask R-CNN as the LVIS configs set it",
        {**overhead.STOCK_RCNN, **overhead.MASKS},
        overhead.AS_CONFIGURED,
        ("balanced_softmax",),
    ),
)


def set_up() -> None:
    """Set the size of the images."""
    overhead.SIDE = 64 if SMALL else 640
