"""Store region features in memory-mapped shards that appear whole or not at all.

A shard is one safetensors file with the regions of some consecutive images. What is read stays in
the page cache of the machine, shared by all its processes.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Callable, Container, Sequence
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lt_det.storage.atomic_write import atomic_path, remove_partial_files
from lt_det.storage.locks import file_lock
from lt_det.storage.regular_file import open_regular

logger = logging.getLogger(__name__)

#: One image: for each classifier, features (Ri, D) float32 and labels (Ri,) int64.
ImageRegions = list[tuple[Tensor, Tensor]]

DTYPES = {"float32": torch.float32, "float16": torch.float16}


def write_shard(
    path: str,
    records: Sequence[ImageRegions],
    *,
    dtype: torch.dtype,
    exact: Container[int] = (),
) -> None:
    """Write the regions of some images to the file ``path``, atomically.

    Args:
        path: any file there is replaced.
        records: one item an image.
        dtype: of the features on disk.
        exact: items of a record that stay float32 whatever ``dtype`` is, such as boxes.

    Raises:
        ValueError: if features are not finite, or not in ``dtype``.
    """
    tensors = {}
    sums = {}
    for i, stage in enumerate(zip(*records)):
        sizes = [labels.numel() for _, labels in stage]
        features = torch.cat([features for features, _ in stage])
        labels = torch.cat([labels for _, labels in stage]).to(torch.int32)
        stored = features.to(torch.float32 if i in exact else dtype)
        if not bool(torch.isfinite(stored).all()):
            raise ValueError(_why_not_finite(features, dtype))
        tensors[f"features_{i}"], tensors[f"labels_{i}"] = stored, labels
        # Image j has the regions from the j-th to the next of these.
        tensors[f"ends_{i}"] = torch.tensor([0, *sizes]).cumsum(0)
        sums[str(i)] = [
            _checksum(*image) for image in zip(stored.split(sizes), labels.split(sizes))
        ]
    # Else a crash of the machine may leave a file of the right name and size without content.
    with atomic_path(path, sync=True) as partial:
        save_file(tensors, partial, metadata={"checksums": json.dumps(sums)})


def _why_not_finite(features: Tensor, dtype: torch.dtype) -> str:
    if bool(torch.isfinite(features).all()):
        return (
            f"region features up to {float(features.abs().max()):.3g} do not fit into "
            f"{str(dtype)[6:]}: set LT_DET.REGION_CACHE.DTYPE float32"
        )
    return "region features are not finite: check MODEL.WEIGHTS, no training is possible with them"


def _checksum(features: Tensor, labels: Tensor) -> int:
    return zlib.crc32(labels.numpy().data, zlib.crc32(features.numpy().data))


class RegionShard:
    """The regions of consecutive images, in a file of :func:`write_shard`; indexable by image."""

    def __init__(self, path: str) -> None:
        """Map a file.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is cut off or no shard, a link, or another user's.
        """
        open_regular(path, own=True).close()
        self._path = path
        try:
            self._file: Any = safe_open(path, "pt")
            sums = json.loads((self._file.metadata() or {})["checksums"])
            stages = range(len(sums))
            self._sums: list[list[int]] = [sums[str(i)] for i in stages]
            self._ends = [self._file.get_tensor(f"ends_{i}").tolist() for i in stages]
            # Slices are read when asked for: the labels too are too many to hold in each process.
            self._labels = [self._file.get_slice(f"labels_{i}") for i in stages]
            self._features = [self._file.get_slice(f"features_{i}") for i in stages]
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{path} is no shard of region features: {error}") from error
        if any(e[0] != 0 or sorted(e) != e or len(e) != len(s) + 1 for e, s in self._bounds()):
            raise ValueError(f"{path} is damaged")
        self._checked = bytearray(len(self))

    def _bounds(self) -> Any:
        return zip(self._ends, self._sums)

    def __len__(self) -> int:
        return len(self._ends[0]) - 1

    def __getitem__(self, image: int) -> ImageRegions:
        """Return the regions of an image.

        Raises:
            RuntimeError: if they are not those that were written.
        """
        record = []
        # Once in a process: the sum takes as long again as reading from memory.
        check = not self._checked[image]
        for i, (features, labels, ends) in enumerate(zip(self._features, self._labels, self._ends)):
            rows = slice(ends[image], ends[image + 1])
            found, classes = features[rows], labels[rows]
            if check and _checksum(found, classes) != self._sums[i][image]:
                raise RuntimeError(
                    f"{self._path} is damaged: it does not hold what was written. Delete it and "
                    "start again with --resume: this file alone is computed anew"
                )
            record.append((found.float(), classes.long()))
        self._checked[image] = True
        return record

    def labels(self, image: int) -> Tensor:
        """Return the labels ``(R,)`` int64 that the first classifier sees in an image."""
        return self._labels[0][self._ends[0][image] : self._ends[0][image + 1]].long()


def open_shard(path: str) -> RegionShard | None:
    """Return the shard of a file, None where there is none that is whole."""
    try:
        return RegionShard(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        logger.warning("%s; it is computed anew", error)
        return None


def fill_shard(
    path: str, *, number: int, compute: Callable[[], None], wait: bool = True
) -> Literal["computed", "there", "busy"]:
    """Compute a shard where it is missing, one process at a time; return what was done.

    Args:
        path: of the shard.
        number: of its lock, in the file "locks" beside it.
        compute: writes the shard.
        wait: for a process that computes it; else that is "busy".
    """
    locks = os.path.join(os.path.dirname(path), "locks")
    with file_lock(locks, number=number, wait=wait) as mine:
        if not mine:
            return "busy"
        if open_shard(path) is not None:
            return "there"
        remove_partial_files(path)
        compute()
        return "computed"


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
