"""Regions of meta batches: from a forward pass, a bank, or the region cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from lt_det.engine.loading.train_stream import TrainStream
from lt_det.engine.regions.cache import compute_regions
from lt_det.engine.regions.classifier import collate_regions
from lt_det.engine.regions.store import ImageRegions
from lt_det.engine.regions.tap import frozen_regions
from lt_det.meta.hypergradient import Regions
from lt_det.modeling.classifiers.image_classifier import LongTailImageClassifier


class MetaBatches:
    """Meta batches: those of a class-balanced stream, made into what a learner wants."""

    def __init__(self, stream: TrainStream, regions_of: Callable[[list], list[Regions]]) -> None:
        """Take batches from ``stream``.

        Args:
            stream: class-balanced.
            regions_of: batch -> regions, one item for each classifier.
        """
        self._stream, self._regions_of = stream, regions_of
        self._batches: Iterator | None = None

    def start_at(self, update: int) -> None:
        """Begin with the batch of the given update."""
        self._stream.start_at(update)
        self._batches = None

    def __call__(self) -> list[Regions]:
        """Return the regions of the next meta batch, one item for each classifier."""
        if self._batches is None:
            self._batches = iter(self._stream)
        return self._regions_of(next(self._batches))


def regions_by_forward(model: nn.Module, batch: list[dict]) -> list[Regions]:
    """Return what the classifiers of the frozen ``model`` see, by one forward."""
    return [Regions(stage.features, stage.labels) for stage in frozen_regions(model, batch)]


def cached_regions(device: torch.device, batch: list[ImageRegions]) -> list[Regions]:
    """Return regions that are known already."""
    return [Regions(r.features.to(device), r.labels.to(device)) for r in collate_regions(batch)]


def whole_images(model: LongTailImageClassifier, batch: list[dict]) -> list[Regions]:
    """Return normalised images for regions: the inner step is the whole network's."""
    return [Regions(model.images(batch), model.labels(batch))]


def fill_bank(
    detector: nn.Module, stream: TrainStream, *, num_images: int, ims_per_forward: int
) -> list[ImageRegions]:
    """Return region records of the first ``num_images`` images of a class-balanced stream.

    The stream is class-balanced already, so a bank of it is drawn from uniformly.
    """
    samples: list[Any] = []
    for batch in stream:
        samples += batch
        if len(samples) >= num_images:
            break
    samples = samples[:num_images]
    with tqdm(total=len(samples), desc="meta regions", unit="img", disable=None) as bar:
        return compute_regions(detector, samples, bar=bar, ims_per_forward=ims_per_forward)
