"""Reduce a detector to the classifiers that a second stage trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lt_det.engine.regions.store import ImageRegions
from lt_det.meta.hypergradient import Regions
from lt_det.modeling.classifiers.classification_head import classification_heads
from lt_det.modeling.image_lists import take_lists


class RegionClassifier(nn.Module):
    """The detector with its training forward cut down to the box classifiers.

    In training it takes cached regions and returns the classification losses under Detectron2's
    names; in evaluation it is the detector.
    """

    def __init__(self, detector: nn.Module) -> None:
        """Wrap a detector with box predictors of this package."""
        super().__init__()
        self.detector = detector

    def forward(self, batch: list) -> Any:
        """Return ``loss_cls``, or for a cascade ``loss_cls_stage0`` and so on.

        Args:
            batch: records of a region cache; in evaluation Detectron2's.
        """
        if not self.training:
            return self.detector(batch)
        take_lists(self.detector, batch)
        predictors = list(classification_heads(self.detector))
        losses = {}
        for i, (predictor, regions) in enumerate(zip(predictors, collate_regions(batch))):
            sizes = [image[i][1].numel() for image in batch]
            device = next(predictor.cls_score.parameters()).device
            logits = predictor.cls_score(regions.features.to(device, torch.float32))
            name = "loss_cls" if len(predictors) == 1 else f"loss_cls_stage{i}"
            losses[name] = predictor.classification_loss(
                logits, regions.labels.to(device), regions_per_image=sizes
            )
        return losses


def collate_regions(batch: Sequence[ImageRegions]) -> list[Regions]:
    """Return the regions of several images joined, one item for each classifier."""
    return [
        Regions(torch.cat([f for f, _ in stage]), torch.cat([y for _, y in stage]))
        for stage in zip(*batch)
    ]
