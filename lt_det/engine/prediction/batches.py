"""Batches of images for prediction; one that cannot be read is named and stops nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from detectron2.evaluation import inference_context
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from lt_det.engine.prediction.image_files import ImageFile
from lt_det.storage.regular_file import check_regular

# Words about a side of 0 pixels.
_NO_PIXELS = ("height and width must be > 0", "sizes should be greater than 0")


@dataclass(frozen=True)
class BrokenImage:
    """An image that could not be read, and why."""

    name: str
    reason: str


class _Samples(Dataset):
    """Images as samples of the model, or as :class:`BrokenImage`."""

    def __init__(
        self, images: Sequence[ImageFile], mapper: Callable[[Any], Any], *, maps_batches: bool
    ) -> None:
        self._images, self._mapper, self._maps_batches = images, mapper, maps_batches

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Any:
        image = self._images[index]
        # A classifier's mapper hands on the label, which is not known.
        record = {"file_name": image.path, "image_id": index + 1, "category_id": -1}
        try:
            check_regular(image.path)
            return self._mapper([record])[0] if self._maps_batches else self._mapper(record)
        except Exception as error:  # decoders raise whatever they stumble over
            # Without the advice for data sets that a mapper wraps it in.
            cause = error.__cause__ or error
            reason = " ".join(str(cause).split()) or type(cause).__name__
            return BrokenImage(image.name, _of_thin_image(image.path, reason) or reason)


def _of_thin_image(path: str, reason: str) -> str | None:
    """Return what resizing an image to no pixels means, in place of what Pillow or torch says."""
    if not any(words in reason for words in _NO_PIXELS):
        return None
    with Image.open(path) as image:
        width, height = image.size
    return (
        f"{width} x {height} pixels: too thin for the size of the test (INPUT.MIN_SIZE_TEST, "
        "MAX_SIZE_TEST), to which it is resized"
    )


def predictions(
    model: nn.Module,
    images: Sequence[ImageFile],
    mapper: Callable[[Any], Any],
    *,
    maps_batches: bool,
    batch_size: int,
    num_workers: int = 0,
) -> Iterator[tuple[ImageFile, dict[str, Any]] | BrokenImage]:
    """Yield what the model says of each image, in their order, with a progress bar.

    Images of one size go through the model together; others by themselves, because padding would
    change what is found. So the detections are those of an evaluation, to rounding.

    Args:
        model: takes lists of samples.
        images: files.
        mapper: record -> sample, or with ``maps_batches`` records -> samples.
        maps_batches: see there.
        batch_size: most images at once.
        num_workers: loader processes.
    """
    loader = DataLoader(
        _Samples(images, mapper, maps_batches=maps_batches),
        batch_size=batch_size,
        num_workers=num_workers if len(images) > batch_size else 0,
        collate_fn=list,
    )
    rest = iter(images)
    with tqdm(total=len(images), unit="image", desc="Predicting", disable=None) as bar:
        for batch in loader:
            for _, group in groupby(batch, key=_shape):
                samples = list(group)
                files = [next(rest) for _ in samples]
                if isinstance(samples[0], BrokenImage):
                    yield from samples
                else:
                    with inference_context(model), torch.no_grad():
                        outputs = model(samples)
                    yield from zip(files, outputs)
                bar.update(len(samples))


def _shape(sample: Any) -> Any:
    if isinstance(sample, BrokenImage):
        return None
    return tuple(sample["image"].shape)
