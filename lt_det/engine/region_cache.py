"""Region features of the training set, computed once for all second stages.

Below the box classifier everything is frozen, so its input need not be computed twice. The sampler
draws images from the cache as from the data set.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import shutil
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Sequence

import numpy as np
from detectron2.data import DatasetMapper
from detectron2.utils import comm
from torch import nn
from tqdm import tqdm

from lt_det.data.class_stats import annotations_of
from lt_det.engine.region_store import (
    DTYPES,
    ImageRegions,
    RegionShard,
    RegionStore,
    write_shard,
)
from lt_det.engine.region_tap import TappedStage, frozen_regions
from lt_det.engine.train_loader import seed_everything
from lt_det.modeling.build import is_image_classifier

logger = logging.getLogger(__name__)

#: Data set dict -> what the model takes; for image classifiers dicts -> samples.
Mapper = Callable[[Any], Any]

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
    detector: nn.Module, samples: Iterable[dict], *, bar: tqdm, ims_per_forward: int = 8
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
        bar.update(len(batch))
    return records


def build_region_cache(
    cfg: Any, detector: nn.Module, dicts: Sequence[dict], *, mapper: Mapper | None = None
) -> RegionStore:
    """Return cached regions of the training set, LT_DET.REGION_CACHE.EPOCHS times over.

    Record ``e * len(dicts) + i`` belongs to image i in augmentation e. The shards lie beside
    OUTPUT_DIR, so that runs side by side share them, in a folder named after all that they depend
    on. What is there is used; the ranks compute the rest, a share each, and an interrupted run
    loses the shard at hand only. More epochs add shards to those of fewer.

    Args:
        cfg: config.
        detector: in training mode, with its weights loaded.
        dicts: data set dicts of the training set.
        mapper: None is Detectron2's ``DatasetMapper``.

    Raises:
        ValueError: if LT_DET.REGION_CACHE.DTYPE is unknown, or the cache would be larger than
            LT_DET.REGION_CACHE.MAX_GIB or the disk.
    """
    node = cfg.LT_DET.REGION_CACHE
    if node.DTYPE not in DTYPES:
        raise ValueError(
            f"LT_DET.REGION_CACHE.DTYPE must be one of {sorted(DTYPES)}, got {node.DTYPE!r}"
        )
    mapper = mapper or DatasetMapper(cfg, True)
    # The main rank's: with a disk each, the images may have other dates on the others.
    fingerprint = comm.all_gather(region_fingerprint(cfg, detector, dicts, mapper=mapper))[0]
    folder = os.path.join(
        os.path.dirname(os.path.abspath(cfg.OUTPUT_DIR)), f"regions_{fingerprint}"
    )
    writer = _ShardWriter(cfg, detector, dicts, folder, mapper=mapper)
    shards = writer.all_shards()
    opened = {shard: _open_shard(shard.path) for shard in shards}
    # Every rank takes a share of what any rank lacks: they may have a disk each.
    lacking = comm.all_gather([shard for shard, content in opened.items() if content is None])
    todo = sorted({shard for of_rank in lacking for shard in of_rank})
    logger.info(
        "%d of %d shards of region features are in %s", len(opened) - len(todo), len(opened), folder
    )
    writer.write(todo[comm.get_rank() :: comm.get_world_size()], num_missing=len(todo))
    comm.synchronize()
    for shard in todo:
        opened[shard] = _open_shard(shard.path)
    # Left over where ranks have a disk each: every one needs all.
    left = [shard for shard, content in opened.items() if content is None]
    writer.write(left, num_missing=len(left))
    return RegionStore([opened[shard] or RegionShard(shard.path) for shard in shards])


def _open_shard(path: str) -> RegionShard | None:
    try:
        return RegionShard(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        logger.warning("%s; it is computed anew", error)
        return None


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
        self._seed = max(cfg.SEED, 0)
        self._maps_batches = is_image_classifier(cfg)
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
        images = sum(shard.end - shard.start for shard in shards)
        with tqdm(total=images, desc="region features", unit="img", disable=None) as bar:
            for number, shard in enumerate(shards):
                position = shard.epoch * len(self._dicts) + shard.start
                seed_everything(self._seed, position)
                samples = self._samples(self._dicts[shard.start : shard.end])
                records = compute_regions(
                    self._detector, samples, bar=bar, ims_per_forward=self._ims_per_forward
                )
                write_shard(shard.path, records, dtype=self._dtype)
                if number == 0:
                    self._check_size(os.path.getsize(shard.path), num_missing=num_missing)

    def _check_size(self, bytes_of_shard: int, *, num_missing: int) -> None:
        node = self._cfg.LT_DET.REGION_CACHE
        total = bytes_of_shard * len(self.all_shards()) / 2**30
        more = bytes_of_shard * (num_missing - 1) / 2**30
        free = shutil.disk_usage(self._folder).free / 2**30
        if total <= node.MAX_GIB and more <= free:
            return
        raise ValueError(
            f"region features of {len(self._dicts)} images in {node.EPOCHS} epochs would take "
            f"{total:.1f} GiB in {self._folder}; allowed are LT_DET.REGION_CACHE.MAX_GIB "
            f"{node.MAX_GIB}, free are {free:.1f} GiB. Set LT_DET.REGION_CACHE.DTYPE "
            "float16, fewer EPOCHS or a smaller MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE, or raise "
            "MAX_GIB"
        )


def region_fingerprint(
    cfg: Any, detector: nn.Module, dicts: Sequence[dict], *, mapper: Mapper | None = None
) -> str:
    """Return a hash of all that region features depend on: weights, images, input, proposals.

    Of an image the name, size and date, or the pixels where they are in memory; of another mapper
    than Detectron2's its class.
    """
    digest = hashlib.sha256()
    trained = {id(p) for p in detector.parameters() if p.requires_grad}
    named = [*detector.named_parameters(), *detector.named_buffers()]
    for name, value in named:
        if id(value) not in trained:
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    for record in dicts:
        digest.update(repr(_file_state(record.get("file_name"))).encode())
        if "image" in record:
            pixels = np.ascontiguousarray(record["image"])
            digest.update(repr((pixels.shape, pixels.dtype.str)).encode())
            digest.update(pixels.tobytes())
        annotations = [(a["category_id"], a.get("bbox")) for a in annotations_of(record)]
        digest.update(str((record.get("image_id"), annotations)).encode())
    # All keys of the model: any of poolers, cascade thresholds, norms and so on may matter.
    model = cfg.MODEL.clone()
    model.defrost()
    model.WEIGHTS, model.DEVICE = "", ""  # their values are above, their names do not matter
    keys = [
        model.dump(),
        cfg.INPUT.dump(),
        cfg.SEED,
        cfg.LT_DET.REGION_CACHE.DTYPE,
        IMAGES_PER_SHARD,
        *_keys_of_ours(cfg),
    ]
    if mapper is not None and type(mapper) is not DatasetMapper:
        keys.append(f"{type(mapper).__module__}.{type(mapper).__qualname__}")
        keys.append(getattr(mapper, "__qualname__", None))  # of a function
    digest.update(repr(keys).encode())
    return digest.hexdigest()[:16]


def _keys_of_ours(cfg: Any) -> list:
    """Return what of LT_DET changes the features: backbone, augmentation, pooled map."""
    backbone = cfg.LT_DET.TIMM.clone()
    backbone.defrost()
    backbone.WEIGHTS = ""  # as MODEL.WEIGHTS
    keys = [backbone.dump()]
    if is_image_classifier(cfg):
        images = cfg.LT_DET.CLASSIFICATION
        transform = images.TRANSFORM.clone()
        transform.defrost()
        if transform.NAME != "none":
            transform.TEST_RESIZE = 0  # of test images only
        keys += [cfg.LT_DET.CIFAR_RESNET.dump(), transform.dump(), images.FEATURE]
        keys.append(IMAGES_FOR_A_DETECTION)
    return keys


def _file_state(file_name: str | None) -> tuple:
    """Return what changes when a file does; its name alone where it is not a local file."""
    try:
        status = os.stat(file_name or "")
    except OSError:
        return (file_name,)
    return (file_name, status.st_size, status.st_mtime_ns)
