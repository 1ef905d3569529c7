"""Training data as a pure function of the seed and the position in the stream.

Detectron2's samplers are infinite streams that depend on the seed only, but a resumed run starts
them anew and augments by random states that were not saved. Here a sample's augmentation is
seeded by its position, and a resumed run starts at the position where it stopped. Loading leaves
no trace in the random states of the training process, so that any number of loader processes gives
the same training.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from detectron2.data.build import worker_init_reset_seed
from detectron2.data.common import DatasetFromList
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from lt_det.data.images.depth import deep_images, deep_images_text
from lt_det.data.records.dataset_dicts import build_train_dicts
from lt_det.data.records.stored_records import StoredRecords
from lt_det.data.sampling.samplers import classes_of_images
from lt_det.engine.aspect_ratio_batches import AspectRatioBatches, wide_images
from lt_det.storage.regular_file import check_regular
from lt_det.tasks import build_task
from lt_det.tasks.train_samplers import build_train_sampler, class_balanced_sampler

# Records whose image is checked before the training, over all of the data set.
_LOOKED_AT = 5000


def seed_everything(*entropy: int) -> None:
    """Seed python, numpy and torch by a hash of several non-negative numbers."""
    words = _hashed(*entropy)
    random.seed(words[0])
    np.random.seed(words[1])
    torch.manual_seed(words[2])


def _hashed(*entropy: int) -> list[int]:
    return np.random.SeedSequence(entropy).generate_state(3).tolist()


class PositionedSampler(Sampler):
    """Numbers the samples of an endless sampler, and can start late.

    Yields ``position * length + index``, so that a data set knows a sample's place in the stream
    in whichever worker process it is loaded.
    """

    def __init__(self, sampler: Sampler, *, length: int) -> None:
        """Number the indices of ``sampler``, all below ``length``."""
        self.sampler, self.length, self.start = sampler, length, 0

    def __iter__(self) -> Iterator[int]:
        for position, index in enumerate(self.sampler):
            if position >= self.start:
                yield position * self.length + int(index)


class PositionedDataset(Dataset):
    """``mapper(items[index])`` under random states that depend on the position alone."""

    def __init__(
        self,
        items: Sequence[Any],
        *,
        mapper: Callable[[Any], Any] | None = None,
        seed: int | None = None,
    ) -> None:
        """Hold the items.

        Args:
            items: records, e.g. Detectron2's data set dicts.
            mapper: record -> sample; None hands out the record.
            seed: None leaves the random states alone.
        """
        self.items, self.mapper, self.seed = items, mapper, seed
        # Of the process that trains: a worker that was spawned knows of no ranks.
        self.rank = comm.get_rank()

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, code: Any) -> Any:
        position, index = divmod(int(code), len(self.items))
        if self.mapper is None:
            return self.items[index]
        item = self.items[index]
        if isinstance(item, dict) and isinstance(item.get("file_name"), str):
            check_regular(item["file_name"])  # a named pipe would stop the training for ever
        with self._seeded(position):
            return self.mapper(item)

    @contextlib.contextmanager
    def _seeded(self, position: int) -> Iterator[None]:
        """Seed python, numpy and torch on the CPU; give back the states of before at the end."""
        if self.seed is None:
            yield
            return
        generator = torch.default_generator
        before = random.getstate(), np.random.get_state(), generator.get_state()
        words = _hashed(self.seed, position, self.rank)
        random.seed(words[0])
        np.random.seed(words[1])
        # Not torch.manual_seed(): it seeds GPUs as well, which the step draws from.
        generator.manual_seed(words[2])
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            generator.set_state(before[2])


class PositionedBatches(PositionedDataset):
    """``mapper([items[i], ...])`` of whole batches, under the random state of their first sample.

    For small images: seeding and augmenting one by one takes longer than the training step.
    """

    def __getitem__(self, codes: Any) -> Any:
        places = [divmod(int(code), len(self.items)) for code in codes]
        samples = [self.items[index] for _, index in places]
        if self.mapper is None:
            return samples
        with self._seeded(places[0][0]):
            return self.mapper(samples)


class TrainStream:
    """An endless training loader that can start at any iteration.

    Iterating yields batches, lists of what the mapper returns.

    Attributes:
        items: the records.
        mapper: record -> sample.
    """

    def __init__(
        self,
        items: Sequence[Any],
        *,
        sampler: Sampler,
        ims_per_batch: int,
        mapper: Callable[[Any], Any] | None = None,
        seed: int | None = None,
        is_wide: np.ndarray | None = None,
        maps_batches: bool = False,
        num_workers: int = 0,
    ) -> None:
        """Build the loader; nothing is read before the first batch.

        Args:
            items: records.
            sampler: endless indices into the records, of this rank.
            ims_per_batch: samples of a batch, all ranks together.
            mapper: record -> sample.
            seed: of the mapper's random states; None leaves them alone.
            is_wide: ``(N,)`` bool; if given, batches are of wide or of other records only.
            maps_batches: ``mapper`` takes the records of a batch and returns its samples.
            num_workers: loader processes of each rank.
        """
        self.items, self.mapper = items, mapper
        self._options: dict[str, Any] = {
            "ims_per_batch": ims_per_batch,
            "mapper": mapper,
            "seed": seed,
            "is_wide": is_wide,
            "maps_batches": maps_batches,
            "num_workers": num_workers,
        }
        self._sampler = PositionedSampler(sampler, length=len(items))
        self._per_rank = ims_per_batch // comm.get_world_size()
        # Detectron2's own loader deals positions to the workers in another way in each version.
        kind = PositionedBatches if maps_batches else PositionedDataset
        dataset = kind(items, mapper=mapper, seed=seed)
        options: dict[str, Any] = {
            "num_workers": num_workers,
            "worker_init_fn": worker_init_reset_seed,
        }
        if seed is not None or mapper is None:
            # An iterator draws a number when it begins: not from the state of the step, which in
            # a resumed run would be another step than in an uninterrupted one.
            options["generator"] = torch.Generator().manual_seed(seed or 0)
        self._groups: AspectRatioBatches | None = None
        batches: Sampler
        if is_wide is not None:
            batches = self._groups = AspectRatioBatches(
                self._sampler, is_wide=is_wide, batch_size=self._per_rank
            )
        else:
            batches = BatchSampler(self._sampler, self._per_rank, drop_last=True)
        if maps_batches:
            self._loader = DataLoader(dataset, sampler=batches, batch_size=None, **options)
        else:
            options["collate_fn"] = list
            self._loader = DataLoader(dataset, batch_sampler=batches, **options)

    def with_sampler(self, sampler: Sampler) -> TrainStream:
        """Return a stream of the same records that draws them by ``sampler``."""
        return TrainStream(self.items, sampler=sampler, **self._options)

    def start_at(self, iteration: int) -> None:
        """Make the next iterator begin with the batch of ``iteration``."""
        if self._groups is None:
            self._sampler.start = iteration * self._per_rank
        else:
            # How many samples so many batches are depends on the groups.
            self._groups.start = iteration

    def records(self) -> Any:
        """Return all records as a list, or as :class:`StoredRecords` where they are such."""
        if isinstance(self.items, (list, StoredRecords)):
            return self.items
        return [self.items[i] for i in range(len(self.items))]

    def __iter__(self) -> Iterator[list]:
        return iter(self._loader)


def build_train_stream(
    cfg: Any,
    dicts: Sequence[dict] | None = None,
    *,
    mapper: Callable[[Any], Any] | None = None,
) -> TrainStream:
    """Return the training loader of a config.

    Args:
        cfg: config.
        dicts: of the training set; None loads it.
        mapper: data set dict -> sample (for image classifiers dicts -> samples); None is
            Detectron2's ``DatasetMapper`` of the config.

    Raises:
        ValueError: without a ``mapper``, if images have more than 8 bits a channel.
    """
    if dicts is None:
        dicts = build_train_dicts(cfg)
    task = build_task(cfg)
    if mapper is None and not task.one_class_an_image:
        _check_depth(dicts, name=", ".join(cfg.DATASETS.TRAIN))
    grouped = cfg.DATALOADER.ASPECT_RATIO_GROUPING and not task.one_class_an_image
    # Stored records, and records of images to classify, are shared by the workers as they are.
    shared = task.one_class_an_image or isinstance(dicts, StoredRecords)
    return TrainStream(
        dicts if shared else DatasetFromList(dicts, copy=False),
        sampler=build_train_sampler(cfg, dicts, seed=shared_seed(cfg)),
        ims_per_batch=cfg.SOLVER.IMS_PER_BATCH,
        seed=cfg.SEED if cfg.SEED >= 0 else None,
        is_wide=wide_images(dicts) if grouped else None,
        **_mapped(cfg, mapper),
    )


def _check_depth(dicts: Sequence[dict], *, name: str) -> None:
    """Raise for images that Detectron2's mapper would clip; of many records it looks at some."""
    rows = np.unique(np.linspace(0, len(dicts) - 1, min(len(dicts), _LOOKED_AT)).astype(int))
    deep = deep_images(dicts[row].get("file_name", "") for row in rows.tolist())
    if deep:
        raise ValueError(f"DATASETS.TRAIN, {deep_images_text(deep, name=name)}")


def build_meta_stream(cfg: Any, stream: TrainStream, *, ims_per_batch: int) -> TrainStream:
    """Return class-balanced batches of the images of ``stream``, augmented like them."""
    # Another seed than training's: else both would augment alike at the same position.
    seed = shared_seed(cfg) + 1
    return TrainStream(
        stream.items,
        sampler=class_balanced_sampler(classes_of_images(stream.records()), seed=seed),
        ims_per_batch=ims_per_batch,
        seed=seed if cfg.SEED >= 0 else None,
        **_mapped(cfg, stream.mapper),
    )


def _mapped(cfg: Any, mapper: Callable[[Any], Any] | None) -> dict[str, Any]:
    """Return the arguments of a stream that say how records are loaded."""
    task = build_task(cfg)
    return {
        "mapper": task.build_mapper(cfg, is_train=True) if mapper is None else mapper,
        "maps_batches": task.one_class_an_image,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


def build_test_loader(cfg: Any, dataset_name: str) -> Any:
    """Return batches of this rank's share of a data set, each image once.

    Images to classify come in large batches, all others by Detectron2's loader.
    """
    task = build_task(cfg)
    if not task.one_class_an_image:
        return build_detection_test_loader(cfg, dataset_name)
    dicts = get_detection_dataset_dicts(dataset_name, filter_empty=False)
    per_rank = max(cfg.LT_DET.CLASSIFICATION.TEST_IMS_PER_BATCH // comm.get_world_size(), 1)
    mapper = task.build_mapper(cfg, is_train=False)
    return DataLoader(
        PositionedBatches(dicts, mapper=mapper),
        sampler=BatchSampler(InferenceSampler(len(dicts)), per_rank, drop_last=False),
        batch_size=None,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def shared_seed(cfg: Any) -> int:
    """Return SEED, or where it is negative a random one that all ranks share."""
    return cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
