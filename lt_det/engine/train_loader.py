"""Training data as a pure function of the seed and the position in the stream.

Detectron2's samplers are infinite streams that depend on the seed only, but a resumed run starts
them anew and augments by random states that were not saved. Here a sample's augmentation is
seeded by its position, and a resumed run starts at the position where it stopped.
"""

from __future__ import annotations

import operator
import random
from typing import Any, Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from detectron2.data import DatasetMapper, get_detection_dataset_dicts
from detectron2.data.build import worker_init_reset_seed
from detectron2.data.common import AspectRatioGroupedDataset, DatasetFromList
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from lt_det.data.samplers import classes_of_images
from lt_det.data.stored_records import StoredRecords
from lt_det.engine.image_loader import build_image_mapper
from lt_det.engine.train_dicts import load_train_dicts
from lt_det.engine.train_samplers import build_train_sampler, class_balanced_sampler
from lt_det.modeling.build import is_image_classifier
from lt_det.storage.regular_file import check_regular


def seed_everything(*entropy: int) -> None:
    """Seed python, numpy and torch by a hash of several non-negative numbers."""
    words = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]))


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

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, code: Any) -> Any:
        position, index = divmod(int(code), len(self.items))
        if self.mapper is None:
            return self.items[index]
        self._seed(position)
        item = self.items[index]
        if isinstance(item, dict) and isinstance(item.get("file_name"), str):
            check_regular(item["file_name"])  # a named pipe would stop the training for ever
        return self.mapper(item)

    def _seed(self, position: int) -> None:
        if self.seed is not None:
            seed_everything(self.seed, position, comm.get_rank())


class PositionedBatches(PositionedDataset):
    """``mapper([items[i], ...])`` of whole batches, under the random state of their first sample.

    For small images: seeding and augmenting one by one takes longer than the training step.
    """

    def __getitem__(self, codes: Any) -> Any:
        places = [divmod(int(code), len(self.items)) for code in codes]
        self._seed(places[0][0])
        samples = [self.items[index] for _, index in places]
        return samples if self.mapper is None else self.mapper(samples)


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
        aspect_ratio_grouping: bool = False,
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
            aspect_ratio_grouping: batches of wide or tall images. Batches then depend on what
                came before, so a resumed run sees the same images in slightly other batches.
            maps_batches: ``mapper`` takes the records of a batch and returns its samples.
            num_workers: loader processes of each rank.
        """
        self.items, self.mapper = items, mapper
        self._options: dict[str, Any] = {
            "ims_per_batch": ims_per_batch,
            "mapper": mapper,
            "seed": seed,
            "aspect_ratio_grouping": aspect_ratio_grouping,
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
        self._loader: Iterable[list]
        if aspect_ratio_grouping:
            samples = DataLoader(
                dataset, sampler=self._sampler, collate_fn=operator.itemgetter(0), **options
            )
            self._loader = AspectRatioGroupedDataset(samples, self._per_rank)
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
        self._sampler.start = iteration * self._per_rank

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
    """
    if dicts is None:
        dicts = load_train_dicts(cfg)
    # Stored records are shared by the workers as they are.
    shared = is_image_classifier(cfg) or isinstance(dicts, StoredRecords)
    return TrainStream(
        dicts if shared else DatasetFromList(dicts, copy=False),
        sampler=build_train_sampler(cfg, dicts, seed=shared_seed(cfg)),
        ims_per_batch=cfg.SOLVER.IMS_PER_BATCH,
        seed=cfg.SEED if cfg.SEED >= 0 else None,
        aspect_ratio_grouping=(
            cfg.DATALOADER.ASPECT_RATIO_GROUPING and not is_image_classifier(cfg)
        ),
        **_mapped(cfg, mapper),
    )


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
    classifies = is_image_classifier(cfg)
    if mapper is None:
        mapper = build_image_mapper(cfg, is_train=True) if classifies else DatasetMapper(cfg, True)
    workers = cfg.DATALOADER.NUM_WORKERS
    return {"mapper": mapper, "maps_batches": classifies, "num_workers": workers}


def build_image_test_loader(cfg: Any, dataset_name: str) -> DataLoader:
    """Return batches of this rank's share of a classification data set, each image once."""
    dicts = get_detection_dataset_dicts(dataset_name, filter_empty=False)
    per_rank = max(cfg.LT_DET.CLASSIFICATION.TEST_IMS_PER_BATCH // comm.get_world_size(), 1)
    mapper = build_image_mapper(cfg, is_train=False)
    return DataLoader(
        PositionedBatches(dicts, mapper=mapper),
        sampler=BatchSampler(InferenceSampler(len(dicts)), per_rank, drop_last=False),
        batch_size=None,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def shared_seed(cfg: Any) -> int:
    """Return SEED, or where it is negative a random one that all ranks share."""
    return cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
