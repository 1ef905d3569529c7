"""Small detectors and inputs for tests of the heads."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lt_det.config import add_lt_det_config

NUM_CLASSES = 6

#: Detectron2's ROI heads and ours, with what a config needs besides.
HEADS = {
    "standard": ("StandardROIHeads", "LongTailROIHeads"),
    "cascade": ("CascadeROIHeads", "LongTailCascadeROIHeads"),
    "res5": ("Res5ROIHeads", "LongTailRes5ROIHeads"),
}


def small_config(kind: str = "standard", *, ours: bool = True, **keys: object) -> CfgNode:
    """Return a config of a narrow ResNet-50 detector for images of about 64 pixels, on the CPU."""
    cfg = get_cfg()
    add_lt_det_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.MASK_ON = True
    # An eighth of the usual width. ResNet-18 has twelve million parameters, and one width only.
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 32
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 8
    cfg.MODEL.ROI_HEADS.NAME = HEADS[kind][int(ours)]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = NUM_CLASSES
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 64
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 32
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 16
    if kind == "res5":
        cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 0
        cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    else:
        cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
        cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
        cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
        cfg.MODEL.FPN.OUT_CHANNELS = 16
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
        cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
        cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
        cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
        cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 32
        cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 4
        cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
        cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION = 7
    if kind == "cascade":
        cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    cfg.merge_from_list(
        [part for item in keys.items() for part in (item[0].replace("__", "."), item[1])]
    )
    return cfg


def as_resnet18(cfg: CfgNode) -> CfgNode:
    """Give ``cfg`` a backbone of the usual width, in place; return it."""
    resnets = cfg.MODEL.RESNETS
    resnets.DEPTH, resnets.RES2_OUT_CHANNELS, resnets.WIDTH_PER_GROUP = 18, 64, 64
    return cfg


def as_retinanet(cfg: CfgNode, *, ours: bool = True, loss: str = "focal") -> CfgNode:
    """Make ``cfg`` that of Detectron2's RetinaNet or of ours, in place; return it."""
    as_resnet18(cfg)  # with the narrow one all scores are equal, and the order of those undefined
    cfg.MODEL.META_ARCHITECTURE = "LongTailRetinaNet" if ours else "RetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RETINANET.NUM_CLASSES = NUM_CLASSES
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    cfg.LT_DET.LOSS = loss
    return cfg


def small_model(cfg: CfgNode, *, seed: int = 0) -> nn.Module:
    """Return the model of a config, its parameters drawn from ``seed``."""
    torch.manual_seed(seed)
    model = build_model(cfg)
    for name, buffer in model.named_buffers():
        if name.endswith("norm.weight"):
            buffer *= 0.5  # batch norm that was never trained lets the values grow with depth
    return model


def small_batch(*, foreground: bool = True) -> list[dict]:
    """Return two images with three instances each, or none."""
    generator = torch.Generator().manual_seed(3)
    batch = []
    for i in range(2):
        height, width = 64 + 16 * i, 80
        image = (torch.rand(3, height, width, generator=generator) * 255).byte()
        instances = Instances((height, width))
        boxes = torch.tensor([[4.0, 4, 36, 40], [30, 10, 70, 50], [8, 30, 28, 60]])
        count = 3 if foreground else 0
        masks = torch.zeros(count, height, width, dtype=torch.bool)
        for mask, box in zip(masks, boxes.int().tolist()):
            mask[box[1] : box[3], box[0] : box[2]] = True
        instances.gt_boxes = Boxes(boxes[:count])
        instances.gt_classes = torch.tensor([5, i, 3])[:count]
        instances.gt_masks = BitMasks(masks)
        batch.append({"image": image, "height": height, "width": width, "instances": instances})
    return batch


class LargestTensor(TorchDispatchMode):
    """Notes the elements of the largest tensor that any operation makes, and the operations.

    Backward included; a view of an argument is not made.
    """

    elements = 0

    def __init__(self) -> None:
        super().__init__()
        self.operations: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operations.add(func.overloadpacket.__name__)
        given = {a.untyped_storage().data_ptr() for a in args if isinstance(a, torch.Tensor)}
        for tensor in result if isinstance(result, (list, tuple)) else [result]:
            is_tensor = isinstance(tensor, torch.Tensor)
            if is_tensor and tensor.untyped_storage().data_ptr() not in given:
                self.elements = max(self.elements, tensor.numel())
        return result
