"""Parts that the examples of this folder share: class counts, an image, the comparison.

A model of your own needs one line of it, ``patch(model, "balanced_softmax", dataset="my_train")``.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from lt_det.data.stats.class_stats import ClassStats
from lt_det.modeling.patching import patch, unpatch

IMAGES = (500, 120, 40, 9, 2)
#: Of a data set, ``lt_det.data.annotations.datasets.class_stats_of("my_train")``.
STATS = ClassStats("five", tuple("abcde"), IMAGES, IMAGES, num_images=600, source="annotations")


def shrink(cfg: Any, *, num_classes: int) -> Any:
    """Make ``cfg`` that of a small Mask R-CNN on the CPU, in place; return it."""
    cfg.merge_from_list(
        [
            *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.MASK_ON", True),
            *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.RESNETS.DEPTH", 18),
            *("MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.FPN.OUT_CHANNELS", 32),
            *("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]),
            *("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"]),
            *("MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64], [128], [256], [512]]),
            *("MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"]),
            *("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
            *("MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"]),
            *("MODEL.ROI_HEADS.NUM_CLASSES", num_classes),
            *("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", 1),
            *("MODEL.ROI_BOX_HEAD.FC_DIM", 64, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7),
            *("MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead"),
            *("MODEL.ROI_MASK_HEAD.NUM_CONV", 1, "MODEL.ROI_MASK_HEAD.CONV_DIM", 32),
        ]
    )
    return cfg


def step(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the losses of one training step on one image; nothing is learned."""
    image = Instances((128, 128))
    image.gt_boxes = Boxes(torch.tensor([[10.0, 10, 60, 70], [50, 40, 120, 110]]))
    image.gt_classes = torch.tensor([0, 4])
    image.gt_masks = BitMasks(torch.ones(2, 128, 128, dtype=torch.bool))
    torch.manual_seed(1)
    pixels = torch.rand(3, 128, 128) * 255
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0  # two steps in a row are then the same
    vars(model).pop("loss_normalizer", None)  # a RetinaNet's moving average
    with EventStorage():
        losses = model.train()([{"image": pixels, "instances": image}])
        sum(losses.values()).backward()
    return {name: loss.detach() for name, loss in losses.items()}


def check(model: torch.nn.Module, loss: Any, **options: Any) -> None:
    """Patch ``model``, take a step, take the patch back, and compare."""
    keys, before = list(model.state_dict()), step(model)
    patch(model, loss, **options)
    patched = step(model)
    assert list(model.state_dict()) == keys
    changed = [name for name in before if not torch.equal(before[name], patched[name])]
    assert changed == ["loss_cls"], changed
    again = step(unpatch(model))
    assert all(torch.equal(before[name], again[name]) for name in before)
    print(f"loss_cls {before['loss_cls']:.3f}, patched {patched['loss_cls']:.3f}, {len(keys)} keys")
