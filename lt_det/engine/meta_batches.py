"""Where the regions of a meta batch come from."""

from __future__ import annotations

from typing import Any, Iterator

import torch
from torch import nn
from tqdm import tqdm

from lt_det.engine.region_cache import compute_regions
from lt_det.engine.region_classifier import collate_regions
from lt_det.engine.region_store import ImageRegions
from lt_det.engine.region_tap import frozen_regions
from lt_det.engine.train_loader import TrainStream
from lt_det.meta.hypergradient import Regions


class ForwardMetaBatches:
    """One forward of the frozen detector for each meta batch."""

    def __init__(self, detector: nn.Module, stream: TrainStream) -> None:
        """Take images from ``stream``, a class-balanced one."""
        self._detector, self._stream = detector, stream
        self._batches: Iterator | None = None

    def start_at(self, update: int) -> None:
        """Begin with the batch of the given update."""
        self._stream.start_at(update)
        self._batches = None

    def __call__(self) -> list[Regions]:
        """Return the regions of the next meta batch, one item for each classifier."""
        if self._batches is None:
            self._batches = iter(self._stream)
        stages = frozen_regions(self._detector, next(self._batches))
        return [Regions(stage.features, stage.labels) for stage in stages]


class CachedMetaBatches:
    """Meta batches from records whose regions are known."""

    def __init__(self, stream: TrainStream, *, device: torch.device) -> None:
        """Take records from ``stream``, a class-balanced one."""
        self._stream, self._device = stream, device
        self._batches: Iterator | None = None

    def start_at(self, update: int) -> None:
        """Begin with the batch of the given update."""
        self._stream.start_at(update)
        self._batches = None

    def __call__(self) -> list[Regions]:
        """Return the regions of the next meta batch, one item for each classifier."""
        if self._batches is None:
            self._batches = iter(self._stream)
        regions = collate_regions(next(self._batches))
        return [Regions(r.features.to(self._device), r.labels.to(self._device)) for r in regions]


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
