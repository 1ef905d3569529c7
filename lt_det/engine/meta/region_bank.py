"""Keep regions of the last images of a class-balanced stream, and renew a few in each iteration."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import overload

from detectron2.utils import comm
from torch import nn
from tqdm import tqdm

from lt_det.engine.loading.image_lists import ListedRegions
from lt_det.engine.loading.train_stream import TrainStream, seeded
from lt_det.engine.regions.cache import compute_regions
from lt_det.engine.regions.store import ImageRegions
from lt_det.losses.image_lists import CLASS_KNOWLEDGE


class RegionBank(Sequence[ImageRegions]):
    """Regions of the last ``num_images`` images of a stream, as they are at one update of psi.

    Before update u the bank holds the images ``r .. r + num_images - 1`` of the stream,
    ``r = floor(u * renewed)``. A meta batch drawn evenly from it has the distribution of a fresh
    one, and follows augmentation and choice of regions, at a fraction of a forward. Meta batches
    near each other share images, so their gradients are correlated; their mean is not biased.

    Each image has a forward of its own, under a random state that depends on its place in the
    stream: a resumed run has the same bank.
    """

    def __init__(
        self,
        detector: nn.Module,
        stream: TrainStream,
        *,
        num_images: int,
        renewed: float,
        seed: int,
    ) -> None:
        """Hold the stream; nothing is computed before :meth:`start_at`.

        Args:
            detector: frozen but for its classifiers; put into training mode.
            stream: class-balanced, one image a batch and rank.
            num_images: of this rank.
            renewed: images renewed at each update, on average; 0 keeps the first ones.
            seed: of the choice of regions.
        """
        self._detector, self._stream, self._seed = detector, stream, seed
        self._renewed = renewed
        self._regions: list[ImageRegions] = [[]] * num_images
        self._samples: Iterator[list] = iter(())
        self._update = self._position = 0

    def start_at(self, update: int) -> None:
        """Fill the bank with what it holds before the given update."""
        self._detector.train()
        self._update, self._position = update, self._oldest(update)
        self._stream.start_at(self._position)
        self._samples = iter(self._stream)
        with tqdm(total=len(self), desc="meta regions", unit="img", disable=None) as bar:
            for _ in range(len(self)):
                self._renew(bar)

    def advance(self) -> None:
        """Go on to the next update."""
        self._update += 1
        while self._position < self._oldest(self._update) + len(self):
            self._renew()

    def _oldest(self, update: int) -> int:
        # A share like 0.1 is no sum of powers of 2: ten of them must be one image.
        return math.floor(update * self._renewed + 1e-9)

    def _renew(self, bar: tqdm | None = None) -> None:
        sample = next(self._samples)
        device = next(self._detector.parameters()).device
        with seeded(self._seed, self._position, comm.get_rank(), device=device):
            (regions,) = compute_regions(self._detector, sample, bar=bar, ims_per_forward=1)
        knowledge = sample[0].get(CLASS_KNOWLEDGE)
        if knowledge is not None:
            regions = ListedRegions(regions, knowledge)
        self._regions[self._position % len(self)] = regions
        self._position += 1

    def __len__(self) -> int:
        return len(self._regions)

    @overload
    def __getitem__(self, index: int) -> ImageRegions: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageRegions]: ...
    def __getitem__(self, index: int | slice) -> ImageRegions | list[ImageRegions]:
        return self._regions[index]
