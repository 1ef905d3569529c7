#!/usr/bin/env python
"""Mask head and box predictor: one class of each region, against all classes.

python benchmarks/heads.py

Forward, loss and backward on region features, and the peak memory of the same, each in a process
of its own.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from timing import Row, in_child, median_ms, peak_growth_mb, write_rows
from torch import nn

from lt_det.losses.criterion import Criterion
from lt_det.modeling.roi.box_predictor import SoftmaxOutputLayers
from lt_det.modeling.roi.mask_head import LongTailMaskHead

FEW, MANY = 80, 1203
REPEATS = 5
MASK_REGIONS, BOX_REGIONS, BOX_FEATURES, FOREGROUND = 100, 1024, 1024, 256
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

Side = Callable[[], "list[torch.Tensor]"]


def make_instances(count: int, labels: torch.Tensor) -> Instances:
    """Return regions of one image with their ground truth, and the same as predictions."""
    regions = Instances((200, 200))
    corners = torch.rand(count, 2, device=DEVICE) * 100
    regions.proposal_boxes = regions.pred_boxes = Boxes(torch.cat([corners, corners + 80], dim=1))
    regions.gt_boxes = Boxes(torch.cat([corners + 3, corners + 90], dim=1))
    regions.gt_classes = regions.pred_classes = labels.to(DEVICE)
    return regions


def train(module: nn.Module, features: torch.Tensor, loss_of: Callable) -> list[torch.Tensor]:
    """Return loss and gradients of one forward and backward."""
    module.zero_grad()
    features = features.detach().requires_grad_()
    with EventStorage():
        loss = loss_of(features)
        loss.backward()
    return [loss.detach(), features.grad, *(p.grad for p in module.parameters())]


def mask_side(ours: bool, num_classes: int, *, training: bool = True) -> Side:
    """Return a call of the mask head's last two layers: the deconvolution and the predictor."""
    torch.manual_seed(0)
    cls = LongTailMaskHead if ours else MaskRCNNConvUpsampleHead
    shape = ShapeSpec(channels=256, height=14, width=14)
    head = cls(shape, num_classes=num_classes, conv_dims=[256]).to(DEVICE)
    head.train(training)
    features = torch.randn(MASK_REGIONS, 256, 14, 14, device=DEVICE)
    regions = make_instances(MASK_REGIONS, torch.randint(0, num_classes, (MASK_REGIONS,)))
    regions.gt_masks = BitMasks(torch.rand(MASK_REGIONS, 200, 200, device=DEVICE) > 0.5)
    if training:
        return lambda: train(head, features, lambda x: head(x, [regions])["loss_mask"])

    @torch.no_grad()
    def infer() -> list[torch.Tensor]:
        return [head(features, [copy.copy(regions)])[0].pred_masks]

    return infer


def box_side(ours: bool, num_classes: int) -> Side:
    """Return a training call of the box predictor: both linear layers and their losses."""
    torch.manual_seed(0)
    common = {
        "box2box_transform": Box2BoxTransform((10.0, 10.0, 5.0, 5.0)),
        "num_classes": num_classes,
    }
    shape = ShapeSpec(channels=BOX_FEATURES)
    if ours:
        criterion = Criterion("softmax_ce")
        predictor = SoftmaxOutputLayers(
            shape, criterion=criterion, fast_box_regression=True, **common
        )
    else:
        predictor = FastRCNNOutputLayers(shape, **common)
    predictor.to(DEVICE).train()
    features = torch.randn(BOX_REGIONS, BOX_FEATURES, device=DEVICE)
    labels = torch.randint(0, num_classes, (BOX_REGIONS,))
    labels[FOREGROUND:] = num_classes
    regions = make_instances(BOX_REGIONS, labels)

    def loss_of(x: torch.Tensor) -> torch.Tensor:
        return sum(predictor.losses(predictor(x), [regions]).values())

    return lambda: train(predictor, features, loss_of)


SIDES: dict[str, Callable[..., Side]] = {
    "mask head's last two layers, training": mask_side,
    "mask head's last two layers, inference": lambda *args: mask_side(*args, training=False),
    "box predictor, training": box_side,
}
#: what, classes of ours, classes of Detectron2's, wanted ratio
TIMES = [
    ("mask head's last two layers, training", MANY, MANY, 3.5),
    ("mask head's last two layers, training", FEW, FEW, 1.0),
    ("mask head's last two layers, training", MANY, FEW, 1.0),
    ("mask head's last two layers, inference", MANY, MANY, None),
    ("box predictor, training", MANY, MANY, None),
    ("box predictor, training", FEW, FEW, None),
]
PEAKS = [
    ("mask head's last two layers, training", MANY, MANY, None),
    ("mask head's last two layers, training", MANY, FEW, 1.0),
    ("box predictor, training", MANY, MANY, None),
]


def named(what: str, ours: int, stock: int) -> str:
    return f"{what}, {ours:,} classes" + (f" against {stock}" if ours != stock else "")


def time_row(what: str, ours: int, stock: int, target: float | None) -> Row:
    sides = {"stock": SIDES[what](False, stock), "ours": SIDES[what](True, ours)}
    if ours == stock:
        for a, b in zip(sides["stock"](), sides["ours"]()):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    times = median_ms(sides, repeats=REPEATS)
    print(named(what, ours, stock), times, flush=True)
    return Row(named(what, ours, stock), times["stock"], times["ours"], "ms", target=target)


def peak_rows() -> list[Row]:
    rows = []
    for what, ours, stock, target in PEAKS:
        peaks = [in_child(__file__, what, str(int(o)), str(k)) for o, k in ((0, stock), (1, ours))]
        name = f"{named(what, ours, stock)}: peak memory"
        rows.append(Row(name, *peaks, "MB", target=target))
    return rows


def main() -> None:
    if len(sys.argv) > 1:  # in a child: what is measured, whose, number of classes
        what, ours, num_classes = sys.argv[1:]
        side = SIDES[what](bool(int(ours)), int(num_classes))
        print(peak_growth_mb(side))
        return
    write_rows(
        "heads",
        [*(time_row(*case) for case in TIMES), *peak_rows()],
        title="Mask head and box predictor",
        about=(
            f"Forward, loss and backward (inference: forward). Mask head: {MASK_REGIONS} regions "
            "of 256 x 14 x 14; the last two layers are the deconvolution and the predictor. Box "
            f"predictor: {BOX_REGIONS:,} regions of {BOX_FEATURES:,} features, {FOREGROUND} of "
            "them foreground, `LT_DET.FAST_BOX_REGRESSION` on. Values and gradients of both sides "
            "are compared (1e-4 relative). One thread; on a CPU the time is the processor's. "
            "Peaks are above what model and input take."
        ),
        command="python benchmarks/heads.py",
        repeats=REPEATS,
    )


if __name__ == "__main__":
    main()
