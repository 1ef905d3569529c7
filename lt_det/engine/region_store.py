"""Region features on disk: memory-mapped shards that appear whole or not at all.

A shard is one safetensors file with the regions of some consecutive images. What is read stays in
the page cache of the machine, shared by all its processes.
"""

from __future__ import annotations

import os
import uuid
from typing import Any, List, Sequence, Tuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

#: One image: for each classifier, features (Ri, D) float32 and labels (Ri,) int64.
ImageRegions = List[Tuple[Tensor, Tensor]]

DTYPES = {"float32": torch.float32, "float16": torch.float16}


def write_shard(path: str, records: Sequence[ImageRegions], *, dtype: torch.dtype) -> None:
    """Write the regions of some images to the file ``path``, atomically.

    Args:
        path: any file there is replaced.
        records: one item an image.
        dtype: of the features on disk.
    """
    tensors = {}
    for i, stage in enumerate(zip(*records)):
        sizes = [labels.numel() for _, labels in stage]
        tensors[f"features_{i}"] = torch.cat([features for features, _ in stage]).to(dtype)
        tensors[f"labels_{i}"] = torch.cat([labels for _, labels in stage]).to(torch.int32)
        # Image j has the regions from the j-th to the next of these.
        tensors[f"ends_{i}"] = torch.tensor([0, *sizes]).cumsum(0)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # Process ids repeat on machines that share a file system.
    partial = f"{path}.{uuid.uuid4().hex}.partial"
    try:
        save_file(tensors, partial)
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


class RegionShard:
    """The regions of consecutive images, in a file of :func:`write_shard`; indexable by image."""

    def __init__(self, path: str) -> None:
        """Map a file.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is cut off or no shard.
        """
        if not os.path.isfile(path):
            raise FileNotFoundError(path)
        try:
            self._file: Any = safe_open(path, "pt")
            names = self._file.keys()
            stages = sum(name.startswith("ends_") for name in names)
            self._ends = [self._file.get_tensor(f"ends_{i}").tolist() for i in range(stages)]
            self._labels = [self._file.get_tensor(f"labels_{i}").long() for i in range(stages)]
            self._features = [self._file.get_slice(f"features_{i}") for i in range(stages)]
        except SafetensorError as error:
            raise ValueError(f"{path} is no shard of region features: {error}") from error

    def __len__(self) -> int:
        return len(self._ends[0]) - 1

    def __getitem__(self, image: int) -> ImageRegions:
        record = []
        for features, labels, ends in zip(self._features, self._labels, self._ends):
            start, end = ends[image], ends[image + 1]
            record.append((features[start:end].float(), labels[start:end]))
        return record

    def labels(self, image: int) -> Tensor:
        """Return the labels ``(R,)`` int64 that the first classifier sees in an image."""
        return self._labels[0][self._ends[0][image] : self._ends[0][image + 1]]


class RegionStore(Sequence[ImageRegions]):
    """All records of a cache, in order, read when asked for."""

    def __init__(self, shards: Sequence[RegionShard]) -> None:
        """Join shards."""
        self._places = [(shard, i) for shard in shards for i in range(len(shard))]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        shard, image = self._places[index]
        return shard[image]

    def classes_of_images(self, *, num_classes: int) -> list[list[int]]:
        """Return the foreground class ids that the first classifier sees in each record."""
        return [
            [c for c in shard.labels(image).unique().tolist() if 0 <= c < num_classes]
            for shard, image in self._places
        ]
