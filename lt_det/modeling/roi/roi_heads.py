"""ROI heads of Detectron2 whose box predictors take their loss from LT_DET.LOSS.

Each builds Detectron2's head and replaces the predictor, nothing else: with LT_DET.LOSS
"softmax_ce" the same seed gives the same parameters, losses and detections as Detectron2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    CascadeROIHeads,
    Res5ROIHeads,
    StandardROIHeads,
)
from torch import nn

from lt_det.losses import get_loss
from lt_det.losses.criterion import set_place_of_draws
from lt_det.modeling.postprocessing.choice import is_ours_wanted
from lt_det.modeling.postprocessing.roi import cascade_detections
from lt_det.modeling.roi.box_predictor import (
    LongTailOutputLayers,
    SigmoidOutputLayers,
    SoftmaxOutputLayers,
)

OUTPUT_LAYERS = {"softmax": SoftmaxOutputLayers, "sigmoid": SigmoidOutputLayers}


def check_switches(model: Any) -> None:
    """Raise if Detectron2's own switches for the classification loss are on.

    Args:
        model: node MODEL of the config.

    Raises:
        ValueError: names the switch.
    """
    for key in ("USE_SIGMOID_CE", "USE_FED_LOSS"):
        if model.ROI_BOX_HEAD.get(key, False):
            raise ValueError(
                f"MODEL.ROI_BOX_HEAD.{key} chooses a loss of Detectron2's own head; with "
                f"{model.ROI_HEADS.NAME} LT_DET.LOSS does: set {key} False"
            )


def build_predictor(cfg: Any, stock: nn.Module) -> LongTailOutputLayers:
    """Return a predictor with the keys of the config and the parameters of ``stock``.

    Raises:
        ValueError: if LT_DET.CLASSIFIER is unknown.
    """
    kind = get_loss(cfg.LT_DET.LOSS).kind
    # The layers' own initial draw is overwritten below: it must not shift the random state, or the
    # rest of the model would start elsewhere than Detectron2's.
    with torch.random.fork_rng(devices=[]):
        predictor = OUTPUT_LAYERS[kind](
            cfg,
            ShapeSpec(channels=stock.cls_score.in_features),
            box2box_transform=stock.box2box_transform,
        )
    predictor.adopt(stock)
    return predictor


@ROI_HEADS_REGISTRY.register()
class LongTailROIHeads(StandardROIHeads):
    """:class:`StandardROIHeads` (FPN models) with the loss of LT_DET.LOSS."""

    @classmethod
    def _init_box_head(cls, cfg: Any, input_shape: Any) -> dict[str, Any]:
        check_switches(cfg.MODEL)
        ret = super()._init_box_head(cfg, input_shape)
        return {**ret, "box_predictor": build_predictor(cfg, ret["box_predictor"])}


@ROI_HEADS_REGISTRY.register()
class LongTailCascadeROIHeads(CascadeROIHeads):
    """:class:`CascadeROIHeads` with the loss of LT_DET.LOSS in every stage."""

    @classmethod
    def _init_box_head(cls, cfg: Any, input_shape: Any) -> dict[str, Any]:
        check_switches(cfg.MODEL)
        ret = super()._init_box_head(cfg, input_shape)
        predictors = [build_predictor(cfg, stock) for stock in ret["box_predictors"]]
        for stage, predictor in enumerate(predictors):
            set_place_of_draws(predictor.criterion, stage)
            if predictor.post_hoc is not None:
                predictor.post_hoc.stage = stage
        return {**ret, "box_predictors": predictors}

    def _forward_box(self, features: Any, proposals: Any, targets: Any = None) -> Any:
        device = features[self.box_in_features[0]].device
        wanted = is_ours_wanted(self.box_predictor[-1].fast_inference, device)
        if self.training or not wanted:
            return super()._forward_box(features, proposals, targets)
        return cascade_detections(self, features, proposals)


@ROI_HEADS_REGISTRY.register()
class LongTailRes5ROIHeads(Res5ROIHeads):
    """:class:`Res5ROIHeads` (C4 models) with the loss of LT_DET.LOSS."""

    @classmethod
    def from_config(cls, cfg: Any, input_shape: Any) -> dict[str, Any]:
        """Build Detectron2's head and replace its predictor."""
        check_switches(cfg.MODEL)
        ret = super().from_config(cfg, input_shape)
        return {**ret, "box_predictor": build_predictor(cfg, ret["box_predictor"])}


def box_predictors(model: nn.Module) -> Iterator[LongTailOutputLayers]:
    """Yield the box predictors of this package in ``model``: one, or one a cascade stage."""
    for module in model.modules():
        if isinstance(module, LongTailOutputLayers):
            yield module
