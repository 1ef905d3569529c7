"""Cut objects out of training images; the last ones are kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Crop:
    """An object, cut out by its box.

    Attributes:
        pixels: ``(h, w, C)``, as the image is read.
        mask: ``(h, w)`` bool.
    """

    pixels: np.ndarray
    mask: np.ndarray

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        return self.pixels.nbytes + self.mask.nbytes

    def resized(self, height: int, width: int) -> Crop:
        """Return it in another size: pixels bilinear, mask by the nearest pixel."""
        size = (width, height)
        channels = [
            np.asarray(Image.fromarray(channel).resize(size, Image.Resampling.BILINEAR))
            for channel in np.moveaxis(self.pixels, -1, 0)
        ]
        mask = Image.fromarray(self.mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
        return Crop(np.stack(channels, axis=-1), np.asarray(mask).astype(bool))


class CropCache:
    """The crops used last, as many as fit into some memory of the process."""

    def __init__(self, max_bytes: int) -> None:
        """Hold up to ``max_bytes`` of crops."""
        self._max_bytes, self._bytes = max_bytes, 0
        self._crops: OrderedDict[Hashable, Crop] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Crop]) -> Crop:
        """Return the crop of ``key``; ``make`` is called if it is not held."""
        found = self._crops.get(key)
        if found is not None:
            self._crops.move_to_end(key)
            return found
        crop = make()
        if crop.num_bytes <= self._max_bytes:
            self._crops[key] = crop
            self._bytes += crop.num_bytes
        while self._bytes > self._max_bytes:
            self._bytes -= self._crops.popitem(last=False)[1].num_bytes
        return crop

    def __reduce__(self) -> tuple:
        # Another process starts with none.
        return (CropCache, (self._max_bytes,))

    def __len__(self) -> int:
        return len(self._crops)

    @property
    def num_bytes(self) -> int:
        """Memory that its crops take."""
        return self._bytes
