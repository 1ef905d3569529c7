"""Regions of meta batches: from a forward pass, a bank, or the region cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn

from lt_det.engine.loading.train_stream import TrainStream
from lt_det.engine.meta.region_bank import RegionBank
from lt_det.engine.regions.classifier import collate_regions
from lt_det.engine.regions.store import ImageRegions
from lt_det.engine.regions.tap import frozen_regions
from lt_det.meta.hypergradient import Regions
from lt_det.modeling.classifiers.classification_head import classification_heads
from lt_det.modeling.classifiers.image_classifier import LongTailImageClassifier
from lt_det.modeling.image_lists import lists_of


class MetaBatches:
    """Meta batches: those of a class-balanced stream, made into what a learner wants."""

    def __init__(
        self,
        stream: TrainStream,
        regions_of: Callable[[list], list[Regions]],
        *,
        bank: RegionBank | None = None,
    ) -> None:
        """Take batches from ``stream``.

        Args:
            stream: class-balanced.
            regions_of: batch -> regions, one item for each classifier.
            bank: what ``stream`` draws from, where it changes from update to update.
        """
        self._stream, self._regions_of, self._bank = stream, regions_of, bank
        self._batches: Iterator | None = None

    def start_at(self, update: int) -> None:
        """Begin with the batch of the given update."""
        self._stream.start_at(update)
        self._batches = None
        if self._bank is not None:
            self._bank.start_at(update)

    def __call__(self) -> list[Regions]:
        """Return the regions of the next meta batch, one item for each classifier."""
        if self._batches is None:
            self._batches = iter(self._stream)
        regions = self._regions_of(next(self._batches))
        if self._bank is not None:
            self._bank.advance()
        return regions


def regions_by_forward(model: nn.Module, batch: list[dict]) -> list[Regions]:
    """Return what the classifiers of the frozen ``model`` see, by one forward."""
    stages = frozen_regions(model, batch)
    with lists_of(model, batch):
        return [
            Regions(s.features, s.labels, s.predictor.hidden_classes(s.labels, s.regions_per_image))
            for s in stages
        ]


def cached_regions(model: nn.Module, batch: list[ImageRegions]) -> list[Regions]:
    """Return regions that are known already, for the classifiers of ``model``."""
    device = next(model.parameters()).device
    found = []
    with lists_of(model, batch):
        for i, (head, regions) in enumerate(
            zip(classification_heads(model), collate_regions(batch))
        ):
            sizes = [image[i][1].numel() for image in batch]
            labels = regions.labels.to(device)
            hidden = head.hidden_classes(labels, sizes)
            found.append(Regions(regions.features.to(device), labels, hidden))
    return found


def whole_images(model: LongTailImageClassifier, batch: list[dict]) -> list[Regions]:
    """Return normalised images for regions: the inner step is the whole network's."""
    return [Regions(model.images(batch), model.labels(batch))]
