"""Detectors of the benchmarks: stock and ours with the same weights, without training them.

A detector with drawn weights does not work as a trained one does: its activations grow from block
to block, its proposals fall together into a few, and its scores are all alike. Here the drawn
weights are scaled so that regions, foreground and scores are as many as a trained one has.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock
from torch import Tensor, nn

from lt_det.engine.startup.setup import load_config
from lt_det.losses.criterion import Criterion

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIDES = ("stock", "ours")
#: Detectron2's heads in a config of ours
STOCK_HEADS = {
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
}
#: natural logarithms: spread of a class's logits over regions, of classes, and of the background
REGION_SPREAD, CLASS_SPREAD, BACKGROUND_SPREAD = 1.5, 2.0, 2.0
#: of the typical region
BACKGROUND_SCORE = 0.97


def config_of(file: Path, side: str, options: Mapping[str, Any]) -> CfgNode:
    """Return a config file of this package with options; "stock" gets Detectron2's heads."""
    items = {"MODEL.DEVICE": DEVICE, **(STOCK_HEADS if side == "stock" else {}), **options}
    return load_config(str(file), [str(part) for item in items.items() for part in item])


@torch.no_grad()
def scale_weights(model: nn.Module) -> nn.Module:
    """Make a freshly drawn detector compute finite features and many proposals; return it."""
    for module in model.modules():
        if isinstance(module, (BasicBlock, BottleneckBlock)):
            last = module.conv3 if isinstance(module, BottleneckBlock) else module.conv2
            last.norm.weight.fill_(0.1)  # with 1, each block adds as much as all before it
    # Proposals are anchors then: of many places and sizes, not all clipped to the whole image.
    model.proposal_generator.rpn_head.anchor_deltas.weight.zero_()
    return model


def built_detector(cfg: CfgNode) -> nn.Module:
    """Return a detector with weights that depend on the classes and shapes alone."""
    torch.manual_seed(0)
    return scale_weights(build_model(cfg))


def bind_counts(model: nn.Module) -> None:
    """Give the losses of ``model`` class counts of 1, 2, ..."""
    columns = model.roi_heads.num_classes + 1
    for module in model.modules():
        if isinstance(module, Criterion):
            module.bind(torch.arange(1, columns + 1, dtype=torch.float64), columns)


@torch.no_grad()
def spread_scores(model: nn.Module, images: list[dict]) -> None:
    """Scale the classifier so that its scores on ``images`` are spread as after training.

    Classes differ in their mean, as class frequencies make them, regions in the classes that
    they look like and in how surely they are background.
    """
    predictor = model.roi_heads.box_predictor
    features = region_features(model, images)
    centre = features.mean(dim=0)
    layer = predictor.cls_score
    logits = (features - centre) @ layer.weight.T
    spread = torch.full_like(logits[0], REGION_SPREAD)
    spread[-1] = BACKGROUND_SPREAD
    layer.weight.mul_((spread / logits.std(dim=0))[:, None])
    generator = torch.Generator().manual_seed(0)
    bias = (torch.randn(len(layer.bias), generator=generator) * CLASS_SPREAD).to(centre.device)
    layer.bias.copy_(bias - layer.weight @ centre)
    logits = layer(features)
    # The background against all other classes together, in the median region.
    margin = (logits[:, -1] - logits[:, :-1].logsumexp(dim=1)).median()
    layer.bias[-1] += torch.logit(torch.tensor(BACKGROUND_SCORE)).to(margin) - margin


@torch.no_grad()
def region_features(model: nn.Module, images: list[dict]) -> Tensor:
    """Return ``(R, D)``: what the box predictor gets for the proposals of ``images``."""
    training = model.training
    model.eval()
    inputs = model.preprocess_image(images)
    features = model.backbone(inputs.tensor)
    proposals, _ = model.proposal_generator(inputs, features)
    heads = model.roi_heads
    maps = [features[name] for name in heads.box_in_features]
    regions = heads.box_pooler(maps, [p.proposal_boxes for p in proposals])
    model.train(training)
    return heads.box_head(regions).flatten(1)


def same_weights(model: nn.Module, other: nn.Module) -> None:
    """Copy the weights of ``other`` into ``model``; all that a detector computes with is there."""
    missing, unexpected = model.load_state_dict(other.state_dict(), strict=False)
    wrong = [name for name in (*missing, *unexpected) if "criterion" not in name]
    if wrong:
        raise SystemExit(f"the two detectors have other parameters: {wrong}")


def compare_detections(stock: list[dict], ours: list[dict]) -> tuple[int, int]:
    """Return how many mask pixels differ, of how many in masks; boxes, scores, classes may not.

    The mask head computes one class's mask where Detectron2 computes all: a probability that
    rounding takes over 0.5 turns its pixel.

    Raises:
        SystemExit: if boxes, scores or classes differ in any bit, or over 1e-4 of the pixels.
    """
    differing = total = 0
    for a, b in zip(stock, ours):
        one, two = a["instances"], b["instances"]
        same = len(one) == len(two) and all(
            torch.equal(x, y)
            for x, y in (
                (one.pred_boxes.tensor, two.pred_boxes.tensor),
                (one.scores, two.scores),
                (one.pred_classes, two.pred_classes),
            )
        )
        if not same:
            raise SystemExit("the detections differ")
        differing += int((one.pred_masks != two.pred_masks).sum())
        total += int(one.pred_masks.sum())
    if differing > 1e-4 * total:
        raise SystemExit(f"the masks differ in {differing} of {total} pixels")
    return differing, total
