"""A predictor of this package in place of one that exists already."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from torch import Tensor

from lt_det.losses.base_criterion import BaseCriterion
from lt_det.modeling.classifiers.layers import CosineClassifier
from lt_det.modeling.roi.box_predictor import (
    LongTailOutputLayers,
    SigmoidOutputLayers,
    SoftmaxOutputLayers,
)

OUTPUT_LAYERS = {"softmax": SoftmaxOutputLayers, "sigmoid": SigmoidOutputLayers}


def replace_predictor(
    stock: FastRCNNOutputLayers,
    criterion: BaseCriterion,
    *,
    prior_prob: float | None = None,
    prior_counts: Tensor | None = None,
) -> LongTailOutputLayers:
    """Return a predictor like ``stock``, parameters included, with another classification loss.

    Args:
        stock: any predictor with the attributes of :class:`FastRCNNOutputLayers`.
        criterion: the loss; its kind decides between K + 1 and K logits.
        prior_prob: see :class:`SigmoidOutputLayers`; None is its default.
        prior_counts: as there.

    Raises:
        TypeError: if ``stock`` is no :class:`FastRCNNOutputLayers`.
        ValueError: if it has K logits and the loss needs K + 1.
    """
    if not isinstance(stock, FastRCNNOutputLayers):
        raise TypeError(
            f"only Detectron2's FastRCNNOutputLayers can be replaced, got {type(stock).__name__}"
        )
    if isinstance(stock, SigmoidOutputLayers) and criterion.kind == "softmax":
        raise ValueError(
            f"a loss of kind 'softmax' ({criterion.name!r}) needs a background column, which the "
            f"{stock.num_classes} rows of SigmoidOutputLayers do not have; use a loss of kind "
            "'sigmoid', or start from a model with softmax"
        )
    box_dim = len(stock.box2box_transform.weights)
    kwargs: dict[str, Any] = {
        "box2box_transform": stock.box2box_transform,
        "num_classes": stock.num_classes,
        "test_score_thresh": stock.test_score_thresh,
        "test_nms_thresh": stock.test_nms_thresh,
        "test_topk_per_image": stock.test_topk_per_image,
        "cls_agnostic_bbox_reg": stock.bbox_pred.out_features == box_dim,
        "smooth_l1_beta": stock.smooth_l1_beta,
        "box_reg_loss_type": stock.box_reg_loss_type,
        "loss_weight": stock.loss_weight,
    }
    if criterion.kind == "sigmoid":
        kwargs["prior_counts"] = prior_counts
        if prior_prob is not None:
            kwargs["prior_prob"] = prior_prob
    # The new layers' own initial draw is overwritten below: it must not shift the random state,
    # or the rest of the model would start elsewhere than Detectron2's.
    with torch.random.fork_rng(devices=[]):
        predictor = OUTPUT_LAYERS[criterion.kind](
            stock.cls_score.in_features, criterion=criterion, **kwargs
        )
    predictor.adopt(stock)
    if isinstance(stock, LongTailOutputLayers):
        predictor.fast_box_regression = stock.fast_box_regression
        predictor.fast_inference = stock.fast_inference
        predictor.post_hoc = stock.post_hoc
        if isinstance(stock.cls_score, CosineClassifier):
            scale = stock.cls_score.scale
            predictor.cls_score = CosineClassifier(predictor.cls_score, scale=scale)
    return predictor.to(stock.cls_score.weight.device).train(stock.training)
