"""Record the regions that classifiers get in a training forward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from lt_det.modeling.classifiers.classification_head import ClassificationHead, classification_heads


class TappedStage:
    """One predictor with the regions of the last forward, one stage of a cascade.

    Attributes:
        predictor: the box predictor.
        features: ``(R, D)`` input of its classifier.
        logits: ``(R, C)`` output, with its graph.
        labels: ``(R,)`` int64 in [0, K].
        regions_per_image: how the R regions are distributed over images.
    """

    features: Tensor
    logits: Tensor
    labels: Tensor
    regions_per_image: Sequence[int]

    def __init__(self, predictor: ClassificationHead) -> None:
        self.predictor = predictor

    def _see_features(self, _module: nn.Module, inputs: tuple) -> None:
        self.features = inputs[0].detach()

    def _see_loss(self, logits: Tensor, labels: Tensor, sizes: Sequence[int]) -> None:
        self.logits, self.labels, self.regions_per_image = logits, labels, sizes


class RegionTap:
    """Context in which a training forward of ``model`` leaves its regions in ``stages``."""

    def __init__(self, model: nn.Module) -> None:
        """Listen to all box predictors of this package in ``model``."""
        self.stages = [TappedStage(predictor) for predictor in classification_heads(model)]
        self._handles: list[Any] = []

    def __enter__(self) -> list[TappedStage]:
        for stage in self.stages:
            module = stage.predictor.feature_module
            self._handles.append(module.register_forward_pre_hook(stage._see_features))
            stage.predictor.loss_observer = stage._see_loss
        return self.stages

    def __exit__(self, *_exception: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for stage in self.stages:
            stage.predictor.loss_observer = None


@torch.no_grad()
def frozen_regions(model: nn.Module, batch: list[dict]) -> list[TappedStage]:
    """Return the regions that ``batch`` gives the classifiers of ``model``, one item a stage.

    A training forward without gradients, without the mask head, which plays no part, and
    without the Meta Reweighter's weights and image lists; nothing is logged.

    Args:
        model: detector in training mode, not wrapped in DDP.
        batch: what the data loader gives.
    """
    heads: Any = getattr(model, "roi_heads", None)
    predictors = list(classification_heads(model))
    weighting = [p.region_weighting for p in predictors]
    lists = [p.criterion.image_lists for p in predictors]
    had_mask, vis_period = getattr(heads, "mask_on", False), getattr(model, "vis_period", 0)
    detector: Any = model
    try:
        if had_mask:
            heads.mask_on = False
        detector.vis_period = 0  # its own storage is at iteration 0: it would draw every batch
        for predictor in predictors:
            predictor.region_weighting = predictor.criterion.image_lists = None
        with EventStorage(), RegionTap(model) as stages:  # a storage of its own, to discard
            model(batch)
    finally:
        if had_mask:
            heads.mask_on = True
        detector.vis_period = vis_period
        for predictor, saved, of_images in zip(predictors, weighting, lists):
            predictor.region_weighting, predictor.criterion.image_lists = saved, of_images
    return stages
