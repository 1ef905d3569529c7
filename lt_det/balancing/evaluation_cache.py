"""Cache of the frozen part of test images, shared by all that is tried on them.

The shards are those of the region cache of training images; for detectors with boxes and sizes
beside the features. They lie beside the output folder, appear whole or not at all, and are used
again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from detectron2.data import DatasetMapper
from torch import nn
from tqdm import tqdm

from lt_det.balancing.frozen_images import FrozenImage, box_stages, frozen_image
from lt_det.balancing.replay import Replay, differs
from lt_det.engine.regions.fingerprint import region_fingerprint
from lt_det.engine.regions.store import (
    DTYPES,
    ImageRegions,
    RegionShard,
    RegionStore,
    fill_shard,
    open_shard,
    write_shard,
)
from lt_det.storage.cache_folder import why_not_usable

#: Images that an interruption loses at most.
IMAGES_PER_SHARD = 32
# Images whose replay is compared with the detector before the rest is computed.
_COMPARED = 2


class FrozenPart(Protocol):
    """What a model computes of test images up to its classifiers."""

    @property
    def mapper(self) -> Any:
        """What makes samples of data set dicts; a part of the name of the cache."""

    @property
    def images_per_shard(self) -> int:
        """Images that an interruption loses at most."""

    @property
    def exact(self) -> Container[int]:
        """Items of a record that stay float32 whatever the dtype of the cache."""

    def records(self, dicts: Sequence[dict]) -> Iterator[ImageRegions]:
        """Yield what is kept of each image of a shard.

        Raises:
            ValueError: if a replay is not what the model finds.
        """


class FrozenDetector:
    """The :class:`FrozenPart` of a detector with box predictors."""

    def __init__(self, cfg: Any, model: nn.Module) -> None:
        """Hold ``model``, in evaluation mode with its weights, and the mapper of a config."""
        self._model, self._compared = model, 0
        self.mapper = DatasetMapper(cfg, is_train=False)
        self.images_per_shard = IMAGES_PER_SHARD
        stages = len(box_stages(model))
        self.exact = range(stages, 2 * stages + 1)

    def records(self, dicts: Sequence[dict]) -> Iterator[ImageRegions]:
        """See :class:`FrozenPart`; the first images are compared."""
        for record in dicts:
            frozen, found = frozen_image(self._model, self.mapper(record))
            if self._compared < _COMPARED:
                self._compare(frozen, found)
                self._compared += 1
            yield frozen.record()

    def _compare(self, frozen: FrozenImage, found: Any) -> None:
        replay = Replay(self._model)
        (again,) = replay.image(frozen)(replay.own_classifiers(), [replay.own])
        on_cpu = next(self._model.parameters()).device.type == "cpu"
        if on_cpu and differs(again, found):  # a GPU rounds in another way
            raise ValueError(
                f"the detections of {type(self._model).__name__} are not those that its box "
                "predictor gives by itself: something else changes them, and balance would try "
                "classifiers on another detector. With a head of your own, use lt-det sweep"
            )


class EvaluationCache:
    """Frozen test images of one model, on disk."""

    def __init__(
        self,
        cfg: Any,
        model: nn.Module,
        dicts: Sequence[dict],
        part: FrozenPart,
        *,
        beside: str,
        dtype: str,
    ) -> None:
        """Name the folder; nothing is computed yet.

        Args:
            cfg: config.
            model: in evaluation mode, with its weights.
            dicts: data set dicts of the images.
            part: of the model.
            beside: folder that the cache lies beside.
            dtype: of the features on disk, "float32" or "float16".

        Raises:
            ValueError: if ``dtype`` is another, the detector cannot be replayed, or others may
                write the folder.
        """
        if dtype not in DTYPES:
            raise ValueError(f"--dtype must be one of {sorted(DTYPES)}, got {dtype!r}")
        self._part, self._dicts, self._dtype = part, list(dicts), DTYPES[dtype]
        self._max_gib = cfg.LT_DET.REGION_CACHE.MAX_GIB
        for parameter in model.parameters():
            parameter.requires_grad_(False)  # all of them count for the name
        size = part.images_per_shard
        layout: Any = ("evaluation", size, dtype)
        name = region_fingerprint(cfg, model, self._dicts, mapper=part.mapper, layout=layout)
        self.folder = os.path.join(os.path.dirname(os.path.abspath(beside)), f"regions_{name}")
        reason = why_not_usable(self.folder)
        if reason is not None:
            raise ValueError(f"test images cannot be kept in {self.folder}: {reason}")
        starts = range(0, len(self._dicts), size)
        self._shards = [
            (self._dicts[s : s + size], os.path.join(self.folder, f"{s:07d}.safetensors"))
            for s in starts
        ]

    def missing(self) -> int:
        """Return how many images are not there yet."""
        return sum(len(dicts) for dicts, path in self._shards if open_shard(path) is None)

    def fill(self, *, on_image: Callable[[], None] = lambda: None) -> RegionStore:
        """Compute what is missing, with a progress bar, and return all images in order.

        Args:
            on_image: called after each; may raise to stop, which loses the shard at hand.

        Raises:
            ValueError: if the cache would be larger than LT_DET.REGION_CACHE.MAX_GIB or the disk,
                or the replay of the first images is not what the model finds.
        """
        with tqdm(total=self.missing(), desc="test images", unit="img", disable=None) as bar:

            def computed(dicts: Sequence[dict], path: str) -> None:
                records = []
                for record in self._part.records(dicts):
                    records.append(record)
                    bar.update()
                    on_image()
                self._write(path, records)

            for number, (dicts, path) in enumerate(self._shards):
                if open_shard(path) is None:
                    fill_shard(path, number=number, compute=partial(computed, dicts, path))
        return RegionStore([RegionShard(path) for _, path in self._shards])

    def _write(self, path: str, records: list[ImageRegions]) -> None:
        write_shard(path, records, dtype=self._dtype, exact=self._part.exact)
        size = os.path.getsize(path) / len(records) * len(self._dicts) / 2**30
        free = shutil.disk_usage(self.folder).free / 2**30
        if size > self._max_gib or size > free + 1:
            raise ValueError(
                f"{len(self._dicts)} test images take {size:.1f} GiB in {self.folder}; allowed are "
                f"LT_DET.REGION_CACHE.MAX_GIB {self._max_gib}, free are {free:.1f} GiB. Give "
                "--dtype float16 or --images with fewer, or raise MAX_GIB"
            )
