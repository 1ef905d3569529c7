"""ROI heads of Detectron2 whose box predictors take their loss from LT_DET.LOSS.

Each builds Detectron2's head and replaces the predictor, nothing else: with LT_DET.LOSS
"softmax_ce" the same seed gives the same parameters, losses and detections as Detectron2.
"""

from __future__ import annotations

from typing import Any, Iterator

from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    CascadeROIHeads,
    Res5ROIHeads,
    StandardROIHeads,
)
from torch import nn

from lt_det.losses.base_criterion import BaseCriterion
from lt_det.modeling.box_predictor import LongTailOutputLayers
from lt_det.modeling.build import build_criterion, build_prior
from lt_det.modeling.build_posthoc import build_post_hoc
from lt_det.modeling.classifier import CosineClassifier
from lt_det.modeling.postprocessing.choice import is_ours_wanted
from lt_det.modeling.postprocessing.roi import cascade_detections
from lt_det.modeling.replaced_predictor import replace_predictor


def check_switches(cfg: Any) -> None:
    """Raise if Detectron2's own switches for the classification loss are on.

    Raises:
        ValueError: names the switch.
    """
    for key in ("USE_SIGMOID_CE", "USE_FED_LOSS"):
        if cfg.MODEL.ROI_BOX_HEAD.get(key, False):
            raise ValueError(
                f"MODEL.ROI_BOX_HEAD.{key} chooses a loss of Detectron2's own head; with "
                f"{cfg.MODEL.ROI_HEADS.NAME} LT_DET.LOSS does: set {key} False"
            )


def build_predictor(cfg: Any, stock: nn.Module) -> LongTailOutputLayers:
    """Return ``stock`` with the loss and the classifier of the config.

    Raises:
        ValueError: if LT_DET.CLASSIFIER is unknown.
    """
    criterion = build_criterion(cfg)
    prior = build_prior(cfg) if criterion.kind == "sigmoid" else {}
    predictor = replace_predictor(stock, criterion, **prior)
    predictor.fast_box_regression = cfg.LT_DET.FAST_BOX_REGRESSION
    kind = cfg.LT_DET.CLASSIFIER.NAME
    if kind == "cosine":
        predictor.cls_score = CosineClassifier(
            predictor.cls_score, scale=cfg.LT_DET.CLASSIFIER.SCALE
        )
    elif kind != "linear":
        raise ValueError(f"LT_DET.CLASSIFIER.NAME must be 'linear' or 'cosine', got {kind!r}")
    predictor.fast_inference = cfg.LT_DET.FAST_INFERENCE
    predictor.post_hoc = build_post_hoc(cfg)
    return predictor


@ROI_HEADS_REGISTRY.register()
class LongTailROIHeads(StandardROIHeads):
    """:class:`StandardROIHeads` (FPN models) with the loss of LT_DET.LOSS."""

    @classmethod
    def _init_box_head(cls, cfg: Any, input_shape: Any) -> dict[str, Any]:
        check_switches(cfg)
        ret = super()._init_box_head(cfg, input_shape)
        return {**ret, "box_predictor": build_predictor(cfg, ret["box_predictor"])}


@ROI_HEADS_REGISTRY.register()
class LongTailCascadeROIHeads(CascadeROIHeads):
    """:class:`CascadeROIHeads` with the loss of LT_DET.LOSS in every stage."""

    @classmethod
    def _init_box_head(cls, cfg: Any, input_shape: Any) -> dict[str, Any]:
        check_switches(cfg)
        ret = super()._init_box_head(cfg, input_shape)
        predictors = [build_predictor(cfg, stock) for stock in ret["box_predictors"]]
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
        check_switches(cfg)
        ret = super().from_config(cfg, input_shape)
        return {**ret, "box_predictor": build_predictor(cfg, ret["box_predictor"])}


def box_predictors(model: nn.Module) -> Iterator[LongTailOutputLayers]:
    """Yield the box predictors of this package in ``model``: one, or one a cascade stage."""
    for module in model.modules():
        if isinstance(module, LongTailOutputLayers):
            yield module


def replace_box_predictors(
    model: nn.Module, criterion: BaseCriterion, *, prior_prob: float | None = None
) -> nn.Module:
    """Give an existing model another classification loss, in place; return the model.

    For models that were not built from our config: a zoo model, a LazyConfig.

    Args:
        model: with ``roi_heads.box_predictor``, one or (cascade) a list.
        criterion: the loss, shared by all stages.
        prior_prob: see :class:`~lt_det.modeling.box_predictor.SigmoidOutputLayers`.

    Raises:
        ValueError: if the model has no such predictor.
    """
    heads = getattr(model, "roi_heads", None)
    predictor = getattr(heads, "box_predictor", None)
    if heads is None or predictor is None:
        raise ValueError(f"{type(model).__name__} has no roi_heads.box_predictor to replace")
    if isinstance(predictor, nn.ModuleList):
        stages = [replace_predictor(p, criterion, prior_prob=prior_prob) for p in predictor]
        heads.box_predictor = nn.ModuleList(stages)
    else:
        heads.box_predictor = replace_predictor(predictor, criterion, prior_prob=prior_prob)
    return model
