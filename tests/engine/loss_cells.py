"""Cells of the table loss x head x config x stage: two training steps of a tiny net each."""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, instantiate
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, build_backbone
from detectron2.modeling.meta_arch.fcos import FCOSHead
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, StandardROIHeads
from detectron2.utils.events import EventStorage
from torch import nn

from lt_det.engine.startup.setup import load_config
from lt_det.engine.trainer import LongTailTrainer
from lt_det.losses import LOSSES
from lt_det.losses.criterion import Criterion
from lt_det.modeling.classifiers.decoupled import freeze_all_but_classifier
from lt_det.modeling.classifiers.image_classifier import LongTailImageClassifier
from lt_det.modeling.dense.fcos import LongTailFCOS
from lt_det.modeling.dense.retinanet import LongTailRetinaNet
from lt_det.modeling.patching import patch
from lt_det.modeling.roi.box_predictor import SigmoidOutputLayers, SoftmaxOutputLayers
from tests.engine.tiny import tiny_config
from tests.modeling.foreign_heads import FOREIGN, with_foreign_predictors
from tests.modeling.small_models import NUM_CLASSES, as_retinanet, small_batch, small_model

HEADS = ("Standard", "Cascade", "Res5", "RetinaNet", "FCOS", "images", "patched")
WAYS = ("yaml", "lazy")
STAGES = ("stage 1", "second stage", "meta learner")
#: What there is no way to write.
ABSENT = {
    ("FCOS", "yaml"): "FCOS is for LazyConfig only, as Detectron2's",
    ("meta learner", "lazy"): "a meta learner is built by LongTailTrainer, from a yaml",
}
DONE = "trains"

_COUNTS = [8.0, 4.0, 2.0, 1.0, 1.0, 1.0]
_IMAGES = 8
_ROI = {"Standard": "standard", "Cascade": "cascade", "Res5": "res5", "patched": "standard"}
_FOREIGN = {"softmax": "squared", "sigmoid": "sequential"}
_STRIDES = {"p3": 8, "p4": 16, "p5": 32, "res4": 16}


@BACKBONE_REGISTRY.register()
class TinyBackboneOfATable(Backbone):
    """Means of patches and a 1x1 convolution of each map."""

    def __init__(self, cfg: Any, input_shape: ShapeSpec) -> None:
        super().__init__()
        maps = cfg.MODEL.RESNETS.OUT_FEATURES
        self.maps = nn.ModuleDict({m: nn.Conv2d(input_shape.channels, 8, 1) for m in maps})

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {m: conv(F.avg_pool2d(x, _STRIDES[m])) for m, conv in self.maps.items()}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {m: ShapeSpec(channels=8, stride=_STRIDES[m]) for m in self.maps}

    @property
    def size_divisibility(self) -> int:
        return 32


def _foreign_heads(kind: str) -> str:
    name = f"{kind.title()}HeadsOfATable"

    class Heads(StandardROIHeads):
        @classmethod
        def _init_box_head(cls, cfg: Any, input_shape: Any) -> dict[str, Any]:
            ret = super()._init_box_head(cfg, input_shape)
            return {**ret, "box_predictor": FOREIGN[kind](cfg, ret["box_head"].output_shape)}

    Heads.__name__ = name
    if name not in ROI_HEADS_REGISTRY:
        ROI_HEADS_REGISTRY.register(Heads)
    return name


@functools.cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="lt_det_cells_"))


@functools.cache
def _detector_config(head: str) -> CfgNode:
    cfg = tiny_config(_folder(), _ROI.get(head, "standard"), MODEL__MASK_ON=False)
    cfg.MODEL.BACKBONE.NAME = "TinyBackboneOfATable"
    names = ["res4"] if head == "Res5" else ["p3", "p4", "p5"]
    if head in ("RetinaNet", "FCOS"):
        cfg = as_retinanet(cfg, loss="focal")
        cfg.MODEL.BACKBONE.NAME = "TinyBackboneOfATable"
        cfg.MODEL.RETINANET.IN_FEATURES, cfg.MODEL.RETINANET.NUM_CONVS = names, 1
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64]]
    else:
        names = names if head == "Res5" else ["p4"]
        cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = names
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16, 32]]
        cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN, cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 8, 8
        cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 2, 8
        if head == "Res5":
            cfg.MODEL.RESNETS.RES2_OUT_CHANNELS, cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 2, 1
            cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.OUT_FEATURES = names
    cfg.LT_DET.META.BANK_IMAGES = 2
    return cfg


@functools.cache
def _image_config() -> CfgNode:
    path = Path(__file__).resolve().parents[2] / "configs/classification/digits_lt_ce.yaml"
    options = ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(_folder()), "LT_DET.PROGRESS_BAR", False]
    cfg = load_config(str(path), options)
    cfg.LT_DET.CIFAR_RESNET.DEPTH, cfg.LT_DET.CIFAR_RESNET.WIDTH = 8, 4
    cfg.SOLVER.IMS_PER_BATCH = 8
    return cfg


class _TwoSteps(LongTailTrainer):
    """The trainer of a yaml, without files."""

    def build_hooks(self) -> list:
        return []


def _check_finite(values: Iterable[torch.Tensor]) -> None:
    for value in values:
        if not math.isfinite(float(value.detach().abs().sum())):
            raise AssertionError("not finite")


def _train_yaml(loss: str, head: str, stage: str) -> None:
    cfg = (_image_config() if head == "images" else _detector_config(head)).clone()
    cfg.DATASETS.TEST, cfg.SOLVER.MAX_ITER, cfg.LT_DET.LOSS = (), 2, loss
    cfg.LT_DET.DECOUPLED = stage != STAGES[0]
    cfg.LT_DET.META.ENABLED = stage == STAGES[2]
    if head == "patched":
        cfg.MODEL.ROI_HEADS.NAME = _foreign_heads(_FOREIGN[LOSSES[loss].kind])
        cfg.LT_DET.PATCH = True
    trainer = _TwoSteps(cfg)
    before = [p.detach().clone() for p in trainer._detector.parameters() if p.requires_grad]
    trainer.train()
    after = [p for p in trainer._detector.parameters() if p.requires_grad]
    _check_finite(after)
    if all(torch.equal(a, b) for a, b in zip(before, after)):
        raise AssertionError("nothing was trained")


def _criterion(loss: str, *, background: bool) -> Any:
    counts = [*_COUNTS, 20.0] if background and LOSSES[loss].counts_background else _COUNTS
    return L(Criterion)(name=loss, class_counts=counts, num_images=_IMAGES)


def _lazy_model(loss: str, head: str) -> nn.Module:
    if head == "images":
        backbone = L(build_backbone)(cfg=_detector_config("RetinaNet"))
        criterion = _criterion(loss, background=False)
        spec = LOSSES[loss]
        others = spec.extra_columns(background=False, **spec.hyperparameters())
        columns = NUM_CLASSES + len(others)
        mean = {"pixel_mean": [0.0] * 3, "pixel_std": [255.0] * 3}
        return instantiate(
            L(LongTailImageClassifier)(
                backbone=backbone, cls_score=L(nn.Linear)(in_features=8, out_features=columns),
                criterion=criterion, **mean,
            )
        )  # fmt: skip
    cfg = _detector_config(head).clone()
    if head == "RetinaNet":
        arguments = LongTailRetinaNet.from_config(cfg)
        arguments["criterion"] = instantiate(_criterion(loss, background=False))
        return LongTailRetinaNet(**arguments)
    if head == "FCOS":
        backbone = build_backbone(cfg)
        shapes = list(backbone.output_shape().values())
        return LongTailFCOS(
            criterion=instantiate(_criterion(loss, background=False)),
            backbone=backbone,
            head=FCOSHead(input_shape=shapes, num_classes=NUM_CLASSES, conv_dims=[8]),
            head_in_features=["p3", "p4", "p5"],
            num_classes=NUM_CLASSES,
            pixel_mean=cfg.MODEL.PIXEL_MEAN,
            pixel_std=cfg.MODEL.PIXEL_STD,
        )
    cfg.MODEL.ROI_HEADS.NAME = cfg.MODEL.ROI_HEADS.NAME.replace("LongTail", "")
    if cfg.MODEL.ROI_HEADS.NAME == "ROIHeads":
        cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    model = small_model(cfg)
    if head == "patched":
        model = with_foreign_predictors(model, _FOREIGN[LOSSES[loss].kind])
        return patch(model, instantiate(_criterion(loss, background=False)))
    layers = SoftmaxOutputLayers if LOSSES[loss].kind == "softmax" else SigmoidOutputLayers

    def ours(stock: Any) -> nn.Module:
        return instantiate(
            L(layers)(
                input_shape=L(ShapeSpec)(channels=stock.cls_score.in_features, width=1, height=1),
                box2box_transform=stock.box2box_transform,
                num_classes=NUM_CLASSES,
                cls_agnostic_bbox_reg=stock.bbox_pred.out_features == 4,
                criterion=_criterion(loss, background=True),
            )
        )

    stock = model.roi_heads.box_predictor
    several = isinstance(stock, nn.ModuleList)
    model.roi_heads.box_predictor = nn.ModuleList(map(ours, stock)) if several else ours(stock)
    return model


def _train_lazy(loss: str, head: str, stage: str) -> None:
    torch.manual_seed(0)
    model = _lazy_model(loss, head).train()
    if stage == STAGES[1]:
        model = freeze_all_but_classifier(model)
    batch = small_batch()
    if head == "images":
        batch = [{"image": s["image"][:, :64, :64], "category_id": i} for i, s in enumerate(batch)]
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.01)
    with EventStorage():
        for _ in range(2):
            losses = model(batch)
            _check_finite(losses.values())
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
    _check_finite(parameters)


def outcome(loss: str, head: str, way: str, stage: str) -> str:
    """Return :data:`DONE`, or the one line by which the cell is refused.

    Raises:
        Exception: whatever is no clear refusal: another error, or more than a line.
    """
    for key in ((head, way), (stage, way)):
        if key in ABSENT:
            return ABSENT[key]
    try:
        (_train_yaml if way == "yaml" else _train_lazy)(loss, head, stage)
    except ValueError as error:
        text = str(error)
        if "\n" in text or not text:
            raise
        return text
    return DONE
