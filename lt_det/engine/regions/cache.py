"""Cache of the region features of a training set, shared by all second stages.

Below the box classifier everything is frozen, so its input need not be computed twice. The sampler
draws images from the cache as from the data set.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.utils import comm
from torch import nn
from tqdm import tqdm

from lt_det.engine.loading.train_stream import seed_everything
from lt_det.engine.regions.fingerprint import Mapper, region_fingerprint
from lt_det.engine.regions.store import (
    DTYPES,
    ImageRegions,
    RegionShard,
    RegionStore,
    fill_shard,
    open_shard,
    write_shard,
)
from lt_det.engine.regions.tap import TappedStage, frozen_regions
from lt_det.evaluation.rank_watch import mark, wait_for_all
from lt_det.modeling.classifiers.classification_head import classification_heads
from lt_det.storage.cache_folder import why_not_usable
from lt_det.tasks import build_task
from lt_det.tasks.named_image_mapper import NamedImageMapper

logger = logging.getLogger(__name__)

#: Images that one interrupted process loses at most; 128 MiB with 512 regions of 1,024 floats.
IMAGES_PER_SHARD = 64
#: So many images to classify stand for one of a detector.
IMAGES_FOR_A_DETECTION = 32


def split_by_image(stages: Sequence[TappedStage]) -> list[ImageRegions]:
    """Return what was tapped as one record an image, on the CPU."""
    columns = []
    for stage in stages:
        sizes = list(stage.regions_per_image)
        features = stage.features.float().cpu().split(sizes)
        # Cloned: a split shares the memory of the whole batch.
        labels = stage.labels.cpu().split(sizes)
        columns.append([(f.clone(), y.clone()) for f, y in zip(features, labels)])
    return [list(record) for record in zip(*columns)]


def compute_regions(
    detector: nn.Module,
    samples: Iterable[dict],
    *,
    bar: tqdm | None = None,
    ims_per_forward: int = 8,
) -> list[ImageRegions]:
    """Return the regions of each sample, in order.

    Args:
        detector: in training mode; nothing of it is changed.
        samples: what a data loader's mapper returns.
        bar: moved on by one for each sample.
        ims_per_forward: images of one forward.
    """
    records: list[ImageRegions] = []
    samples = iter(samples)
    while batch := list(itertools.islice(samples, ims_per_forward)):
        records += split_by_image(frozen_regions(detector, batch))
        if bar is not None:
            bar.update(len(batch))
        mark("region features")
    return records


def build_region_cache(
    cfg: Any, detector: nn.Module, dicts: Sequence[dict], *, mapper: Mapper | None = None
) -> RegionStore:
    """Return cached regions of the training set, LT_DET.REGION_CACHE.EPOCHS times over.

    Record ``e * len(dicts) + i`` belongs to image i in augmentation e. The shards lie beside
    OUTPUT_DIR, so that runs side by side share them, in a folder named after all that they depend
    on. What is there is used; the ranks compute the rest, a share each, and an interrupted run
    loses the shard at hand only. Runs that start at once share the work. More epochs add shards
    to those of fewer. The augmentation depends on LT_DET.REGION_CACHE.SEED, not on SEED: runs
    with other seeds use the same cache.

    Args:
        cfg: config.
        detector: in training mode, with its weights loaded.
        dicts: data set dicts of the training set.
        mapper: None is Detectron2's ``DatasetMapper``.

    Raises:
        ValueError: if LT_DET.REGION_CACHE.DTYPE is unknown, or the cache would be larger than
            LT_DET.REGION_CACHE.MAX_GIB or the disk, or others may write its folder.
    """
    node = cfg.LT_DET.REGION_CACHE
    if node.DTYPE not in DTYPES:
        raise ValueError(
            f"LT_DET.REGION_CACHE.DTYPE must be one of {sorted(DTYPES)}, got {node.DTYPE!r}"
        )
    mapper = mapper or NamedImageMapper(cfg, True)
    wait_for_all("the name of the region cache")
    # The main rank's: with a disk each, the images may have other dates on the others.
    fingerprint = ""
    if comm.is_main_process():
        layout = (IMAGES_PER_SHARD, IMAGES_FOR_A_DETECTION)
        fingerprint = region_fingerprint(cfg, detector, dicts, mapper=mapper, layout=layout)
    fingerprint = comm.all_gather(fingerprint)[0]
    beside = os.path.dirname(os.path.abspath(cfg.OUTPUT_DIR))
    folder = os.path.join(beside, f"regions_{fingerprint}")
    _log_other_caches(beside, folder)
    writer = _ShardWriter(cfg, detector, dicts, folder, mapper=mapper)
    shards = writer.all_shards()
    opened = {shard: open_shard(shard.path) for shard in shards}
    # Every rank takes a share of what any rank lacks: they may have a disk each.
    lacking = comm.all_gather([shard for shard, content in opened.items() if content is None])
    todo = sorted({shard for of_rank in lacking for shard in of_rank})
    logger.info(
        "%d of %d shards of region features are in %s", len(opened) - len(todo), len(opened), folder
    )
    writer.check_room(num_missing=len(todo))
    writer.write(todo[comm.get_rank() :: comm.get_world_size()], num_missing=len(todo))
    wait_for_all("the region cache", barrier=comm.synchronize)
    for shard in todo:
        opened[shard] = open_shard(shard.path)
    # Left over where ranks have a disk each: every one needs all.
    left = [shard for shard, content in opened.items() if content is None]
    writer.write(left, num_missing=len(left))
    return RegionStore([opened[shard] or RegionShard(shard.path) for shard in shards])


def _log_other_caches(beside: str, folder: str) -> None:
    """Log how much room other caches take: nothing removes them."""
    others = [p for p in Path(beside).glob("regions_*") if p.is_dir() and str(p) != folder]
    if others:
        size = sum(f.stat().st_size for p in others for f in p.glob("*.safetensors"))
        logger.info(
            "%d other region caches in %s take %.1f GiB; delete those that you no longer need",
            len(others),
            beside,
            size / 2**30,
        )


class _Shard(NamedTuple):
    """Images ``start`` to ``end`` of the training set in augmentation ``epoch``."""

    epoch: int
    start: int
    end: int
    path: str


class _ShardWriter:
    """Computes shards of region features, the same whichever process does."""

    def __init__(
        self, cfg: Any, detector: nn.Module, dicts: Sequence[dict], folder: str, *, mapper: Mapper
    ) -> None:
        self._cfg, self._detector, self._dicts, self._folder = cfg, detector, dicts, folder
        self._mapper = mapper
        self._dtype = DTYPES[cfg.LT_DET.REGION_CACHE.DTYPE]
        self._seed = cfg.LT_DET.REGION_CACHE.SEED
        reason = why_not_usable(folder)
        if reason is not None:
            raise ValueError(
                f"region features cannot be kept in {folder}, beside OUTPUT_DIR: {reason}"
            )
        self._is_measured = False
        self._maps_batches = build_task(cfg).one_class_an_image
        self._ims_per_forward, self._ims_per_shard = 8, IMAGES_PER_SHARD
        if self._maps_batches:
            # One row of features an image, not hundreds.
            self._ims_per_forward *= IMAGES_FOR_A_DETECTION
            self._ims_per_shard *= IMAGES_FOR_A_DETECTION

    def all_shards(self) -> list[_Shard]:
        """Return the shards of all epochs, in the order of their records."""
        starts = range(0, len(self._dicts), self._ims_per_shard)
        return [
            _Shard(
                epoch,
                start,
                min(start + self._ims_per_shard, len(self._dicts)),
                os.path.join(self._folder, f"epoch{epoch}_{start:07d}.safetensors"),
            )
            for epoch in range(self._cfg.LT_DET.REGION_CACHE.EPOCHS)
            for start in starts
        ]

    def _samples(self, records: Sequence[dict]) -> Iterator[dict]:
        """Yield augmented samples."""
        if not self._maps_batches:
            yield from map(self._mapper, records)
            return
        for start in range(0, len(records), self._ims_per_forward):
            yield from self._mapper(records[start : start + self._ims_per_forward])

    def write(self, shards: Sequence[_Shard], *, num_missing: int) -> None:
        """Compute and write shards, with a progress bar.

        Args:
            shards: of this rank.
            num_missing: of all ranks; the disk must hold them.
        """
        number_of = {shard.path: number for number, shard in enumerate(self.all_shards())}
        images = sum(shard.end - shard.start for shard in shards)
        with tqdm(total=images, desc="region features", unit="img", disable=None) as bar:
            busy: list[_Shard] = []
            for wait, some in ((False, shards), (True, busy)):
                for shard in some:
                    done = fill_shard(
                        shard.path,
                        number=number_of[shard.path],
                        compute=partial(self._compute, shard, bar, num_missing=num_missing),
                        wait=wait,
                    )
                    if done == "busy":
                        busy.append(shard)  # another run is at it
                    elif done == "there":
                        bar.update(shard.end - shard.start)

    def _compute(self, shard: _Shard, bar: tqdm, *, num_missing: int) -> None:
        position = shard.epoch * len(self._dicts) + shard.start
        seed_everything(self._seed, position)
        samples = self._samples(self._dicts[shard.start : shard.end])
        records = compute_regions(
            self._detector, samples, bar=bar, ims_per_forward=self._ims_per_forward
        )
        write_shard(shard.path, records, dtype=self._dtype)
        if not self._is_measured:  # an estimate no more
            self._is_measured = True
            self._check_size(os.path.getsize(shard.path), num_missing=num_missing - 1)

    def check_room(self, *, num_missing: int) -> None:
        """Refuse a cache that may not fit, before any of it is computed."""
        bytes_of_image = self._largest_image()
        if num_missing and bytes_of_image:
            images = min(self._ims_per_shard, len(self._dicts))
            self._check_size(bytes_of_image * images, num_missing=num_missing)

    def _largest_image(self) -> int:
        """Return the bytes that an image takes at most; 0 where that is not known."""
        rows = 1 if self._maps_batches else self._cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE
        inputs: list[Any] = [
            getattr(head.cls_score, "in_features", None)
            for head in classification_heads(self._detector)
        ]
        if not all(isinstance(size, int) for size in inputs):
            return 0
        item, label = (torch.zeros(0, dtype=d).element_size() for d in (self._dtype, torch.int32))
        return rows * sum(size * item + label for size in inputs)

    def _check_size(self, bytes_of_shard: int, *, num_missing: int) -> None:
        node = self._cfg.LT_DET.REGION_CACHE
        images = min(self._ims_per_shard, len(self._dicts))
        total = bytes_of_shard / images * len(self._dicts) * node.EPOCHS / 2**30
        more = bytes_of_shard * num_missing / 2**30
        free = shutil.disk_usage(self._folder).free / 2**30
        if total <= node.MAX_GIB and more <= free:
            return
        raise ValueError(
            f"region features of {len(self._dicts)} images in {node.EPOCHS} epochs take up to "
            f"{total:.1f} GiB in {self._folder}; allowed are LT_DET.REGION_CACHE.MAX_GIB "
            f"{node.MAX_GIB}, free are {free:.1f} GiB. Set LT_DET.REGION_CACHE.DTYPE "
            "float16, fewer EPOCHS or a smaller MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE, or raise "
            "MAX_GIB"
        )
