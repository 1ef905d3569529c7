#!/usr/bin/env python
"""A whole training step with the losses and heads of this package, against Detectron2's own.

python benchmarks/overhead.py

Two comparisons. Every loss of the table, all else as in Detectron2: what it costs, at most 1.05 of
the step, with a running state 1.10. Only the classifier and its loss, forward and backward, are
measured for each, and exchanged in Detectron2's step: two whole steps differ by more than most
losses cost. And the heads as the LVIS configs set them, with masks: what they save, whole steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from fvcore.nn import sigmoid_focal_loss_jit
from timing import ON_GPU, Row, median_ms, write_rows
from torch import Tensor

from lt_det.config import add_lt_det_config
from lt_det.losses import LOSSES
from lt_det.losses.criterion import Criterion
from lt_det.losses.targets import one_hot_targets
from lt_det.modeling.classifiers.classification_head import ClassificationHead

FEW, MANY = 80, 1203
DEVICE = "cuda" if ON_GPU else "cpu"
SIDE, IMAGES = 160, 2
REPEATS = 3
#: Wanted ratio of a loss without and with a running state.
STATELESS, STATEFUL = 1 / 1.05, 1 / 1.10
#: Rows of the classifier in one step: sampled regions, and anchors of five levels.
REGIONS, ANCHORS = 256, 9684
FEATURES = 1024

STOCK_RCNN = {"MODEL.ROI_HEADS.NAME": "StandardROIHeads"}
RCNN = {"MODEL.ROI_HEADS.NAME": "LongTailROIHeads"}
STOCK_RETINANET = {"MODEL.META_ARCHITECTURE": "RetinaNet"}
MASKS = {"MODEL.MASK_ON": True}
AS_CONFIGURED = {
    **RCNN,
    **MASKS,
    "MODEL.ROI_MASK_HEAD.NAME": "LongTailMaskHead",
    "LT_DET.FAST_BOX_REGRESSION": True,
}
LOSSES_OF = {
    "R-CNN": list(LOSSES),
    "RetinaNet": [
        name
        for name, spec in LOSSES.items()
        if spec.kind == "sigmoid" and spec.scoring(background=False) == "sigmoid"
    ],
}


def small_config(num_classes: int, options: dict[str, Any]) -> CfgNode:
    """Return a config of a detector on ResNet-18-FPN with Detectron2's widths of the heads."""
    cfg = get_cfg()
    add_lt_det_config(cfg)
    retinanet = "RetinaNet" in options.get("MODEL.META_ARCHITECTURE", "")
    levels = ["res3", "res4", "res5"] if retinanet else ["res2", "res3", "res4", "res5"]
    settings = {
        "MODEL.DEVICE": DEVICE,
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


def labels_of(rows: int, foreground: float) -> Tensor:
    """Return ``(rows,)`` labels, a share of them foreground."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, MANY, (rows,), generator=generator)
    labels[torch.rand(rows, generator=generator) > foreground] = MANY
    return labels.to(DEVICE)


def bound(loss: str, *, background: bool) -> Criterion:
    """Return a loss that is ready to train."""
    criterion = Criterion(loss).to(DEVICE)
    criterion.fit_head(MANY, background=background)
    counted = MANY + (background and criterion.spec.counts_background)
    criterion.bind(torch.arange(1, counted + 1, dtype=torch.float64), 2000)
    return criterion


def part_of_rcnn(loss: str | None) -> Callable[[], None]:
    """Return classifier and loss of an R-CNN's step, forward and backward; None is Detectron2's."""
    torch.manual_seed(0)
    features = torch.randn(REGIONS, FEATURES, device=DEVICE, requires_grad=True)
    labels = labels_of(REGIONS, 0.25)
    head = ClassificationHead()
    columns = MANY + 1
    if loss is not None:
        head.criterion = bound(loss, background=True)
        columns = MANY + len(head.criterion.extra_columns(background=True))
    classifier = torch.nn.Linear(FEATURES, columns, device=DEVICE)

    def part() -> None:
        logits = classifier(features)
        if loss is None:
            value = torch.nn.functional.cross_entropy(logits, labels)
        else:
            value = head.classification_loss(logits, labels)
        value.backward()

    return part


def part_of_retinanet(loss: str | None) -> Callable[[], None]:
    """Return the loss of a RetinaNet's step, forward and backward; None is Detectron2's."""
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(ANCHORS, MANY, generator=generator) - 4.6).to(DEVICE).requires_grad_()
    labels = labels_of(ANCHORS, 0.005)
    criterion = None if loss is None else bound(loss, background=False)

    def part() -> None:
        if criterion is None:
            hot = torch.nn.functional.one_hot(labels, MANY + 1)[:, :-1].to(logits.dtype)
            sigmoid_focal_loss_jit(logits, hot, alpha=0.25, gamma=2.0, reduction="sum").backward()
            return
        targets = one_hot_targets(labels, num_classes=MANY, dtype=logits.dtype)
        with criterion.step(logits, targets):
            criterion(logits, targets, reduction="sum").backward()

    return part


PARTS = {"R-CNN": (part_of_rcnn, STOCK_RCNN), "RetinaNet": (part_of_retinanet, STOCK_RETINANET)}


def main() -> None:
    rows = []
    for what, (part, stock) in PARTS.items():
        step = median_ms({"step": stepper(MANY, stock)}, repeats=REPEATS)["step"]
        # All in turns: none meets another machine than Detectron2's.
        parts = {loss: part(loss) for loss in LOSSES_OF[what]}
        times = median_ms({"stock": part(None), **parts}, repeats=REPEATS)
        for loss in parts:
            ours = step - times["stock"] + times[loss]
            name = f"{what}, {MANY:,} classes, {loss}"
            print(
                name, f"step {step:.0f}, part {times['stock']:.0f}, {times[loss]:.0f}", flush=True
            )
            target = STATELESS if LOSSES[loss].state is None else STATEFUL
            note = f"loss {times['stock']:.0f} / {times[loss]:.0f} ms"
            rows.append(Row(name, step, ours, "ms", target=target, note=note))
    what, loss = "Mask R-CNN as the LVIS configs set it", "balanced_softmax"
    for num_classes in (FEW, MANY):
        steps = {
            "stock": stepper(num_classes, {**STOCK_RCNN, **MASKS}),
            loss: stepper(num_classes, {**AS_CONFIGURED, "LT_DET.LOSS": loss}),
        }
        times = median_ms(steps, repeats=REPEATS)
        name = f"{what}, {num_classes:,} classes, {loss}"
        print(name, {k: round(v) for k, v in times.items()}, flush=True)
        rows.append(Row(name, times["stock"], times[loss], "ms"))
    write_rows(
        "overhead",
        rows,
        title="Training step",
        about=(
            f"Forward, backward and SGD of a ResNet-18-FPN detector, {IMAGES} images of {SIDE} x "
            f"{SIDE}, 6 objects each, against Detectron2's cross-entropy or focal loss. R-CNN and "
            f"RetinaNet: Detectron2's step with its classifier and loss ({REGIONS} regions, "
            f"{ANCHORS:,} anchors) exchanged for ours, so a ratio of 0.98 is an overhead of 2 %; "
            "the note has the time of that part alone. One thread; on a CPU the time is the "
            "processor's."
        ),
        command="python benchmarks/overhead.py",
        repeats=REPEATS,
    )


if __name__ == "__main__":
    main()
