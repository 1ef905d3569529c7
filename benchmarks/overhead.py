#!/usr/bin/env python
"""A whole training step with the heads of this package, against Detectron2's own.

python benchmarks/overhead.py

Two comparisons: every loss of the table, all else as in Detectron2 (what they cost: at most 1.05,
with a running state 1.10), and the heads as the LVIS configs set them, with masks (what they save).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from timing import ON_GPU, Row, median_ms, write_rows

from lt_det.config import add_lt_det_config
from lt_det.losses import LOSSES
from lt_det.losses.criterion import Criterion

FEW, MANY = 80, 1203
SIDE, IMAGES = 160, 2
REPEATS = 5
#: Wanted ratio of a loss without and with a running state.
STATELESS, STATEFUL = 1 / 1.05, 1 / 1.10
#: Losses timed between two runs of Detectron2's step: their models are in memory together.
AT_ONCE = 5

STOCK_RCNN = {"MODEL.ROI_HEADS.NAME": "StandardROIHeads"}
RCNN = {"MODEL.ROI_HEADS.NAME": "LongTailROIHeads"}
STOCK_RETINANET = {"MODEL.META_ARCHITECTURE": "RetinaNet"}
RETINANET = {"MODEL.META_ARCHITECTURE": "LongTailRetinaNet"}
MASKS = {"MODEL.MASK_ON": True}
AS_CONFIGURED = {
    **RCNN,
    **MASKS,
    "MODEL.ROI_MASK_HEAD.NAME": "LongTailMaskHead",
    "LT_DET.FAST_BOX_REGRESSION": True,
}
#: architecture, numbers of classes, options of Detectron2's side, loss -> options of our side
COMPARISONS: list[tuple[str, list[int], dict[str, Any], dict[str, dict[str, Any]]]] = [
    ("R-CNN", [MANY], STOCK_RCNN, dict.fromkeys(LOSSES, RCNN)),
    (
        "RetinaNet",
        [MANY],
        STOCK_RETINANET,
        {
            name: RETINANET
            for name, spec in LOSSES.items()
            if spec.kind == "sigmoid" and spec.scoring(background=False) == "sigmoid"
        },
    ),
    (
        "Mask R-CNN as the LVIS configs set it",
        [FEW, MANY],
        {**STOCK_RCNN, **MASKS},
        {"balanced_softmax": AS_CONFIGURED},
    ),
]


def small_config(num_classes: int, options: dict[str, Any]) -> CfgNode:
    """Return a config of a detector on ResNet-18-FPN with Detectron2's widths of the heads."""
    cfg = get_cfg()
    add_lt_det_config(cfg)
    retinanet = "RetinaNet" in options.get("MODEL.META_ARCHITECTURE", "")
    levels = ["res3", "res4", "res5"] if retinanet else ["res2", "res3", "res4", "res5"]
    settings = {
        "MODEL.DEVICE": "cuda" if ON_GPU else "cpu",
        "MODEL.RESNETS.DEPTH": 18,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
        "MODEL.RESNETS.OUT_FEATURES": levels,
        "MODEL.FPN.IN_FEATURES": levels,
        "MODEL.BACKBONE.NAME": f"build_{'retinanet_' if retinanet else ''}resnet_fpn_backbone",
        "MODEL.ROI_HEADS.NUM_CLASSES": num_classes,
        "MODEL.RETINANET.NUM_CLASSES": num_classes,
        "MODEL.ANCHOR_GENERATOR.SIZES": [[16], [32], [64], [128], [256]],
        "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
        "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 128,
        "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
        "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
        "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
        "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
        **options,
    }
    cfg.merge_from_list([part for item in settings.items() for part in item])
    return cfg


def make_batch(num_classes: int) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    batch = []
    for _ in range(IMAGES):
        corners = torch.rand(6, 2, generator=generator) * SIDE / 2
        sizes = 30 + torch.rand(6, 2, generator=generator) * SIDE / 3
        instances = Instances((SIDE, SIDE))
        instances.gt_boxes = Boxes(torch.cat([corners, corners + sizes], dim=1))
        instances.gt_classes = torch.randint(0, num_classes, (6,), generator=generator)
        instances.gt_masks = BitMasks(torch.rand(6, SIDE, SIDE, generator=generator) > 0.5)
        image = (torch.rand(3, SIDE, SIDE, generator=generator) * 255).byte()
        batch.append({"image": image, "height": SIDE, "width": SIDE, "instances": instances})
    return batch


def stepper(num_classes: int, options: dict[str, Any]) -> Callable[[], None]:
    """Return one training step of a model that is always the same: the rate is 0."""
    torch.manual_seed(0)
    model = build_model(small_config(num_classes, options)).train()
    for module in model.modules():
        if isinstance(module, Criterion):
            columns = num_classes + module.spec.counts_background
            module.bind(torch.arange(1, columns + 1, dtype=torch.float64), 2000)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    batch = make_batch(num_classes)

    def step() -> None:
        torch.manual_seed(0)  # the same regions are sampled every time
        with EventStorage():
            loss = sum(model(batch).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return step


def main() -> None:
    rows = []
    for what, numbers, stock, ours in COMPARISONS:
        losses = list(ours)
        for num_classes, first in itertools.product(numbers, range(0, len(losses), AT_ONCE)):
            steps = {"stock": stepper(num_classes, stock)}
            some = losses[first : first + AT_ONCE]
            for loss in some:
                steps[loss] = stepper(num_classes, {**ours[loss], "LT_DET.LOSS": loss})
            times = median_ms(steps, repeats=REPEATS)
            for loss in some:
                name = f"{what}, {num_classes:,} classes, {loss}"
                print(name, {k: round(times[k]) for k in ("stock", loss)}, flush=True)
                wanted = STATELESS if LOSSES[loss].state is None else STATEFUL
                target = None if ours[loss] is AS_CONFIGURED else wanted
                rows.append(Row(name, times["stock"], times[loss], "ms", target=target))
    write_rows(
        "overhead",
        rows,
        title="Training step",
        about=(
            f"Forward, backward and SGD of a ResNet-18-FPN detector, {IMAGES} images of {SIDE} x "
            f"{SIDE}, 6 objects each, against Detectron2's cross-entropy or focal loss. R-CNN "
            "without masks and RetinaNet: all but the loss is as in Detectron2, so a ratio of "
            "0.98 is an overhead of 2 %. One thread; on a CPU the time is the processor's."
        ),
        command="python benchmarks/overhead.py",
        repeats=REPEATS,
    )


if __name__ == "__main__":
    main()
