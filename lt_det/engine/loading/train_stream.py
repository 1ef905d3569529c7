"""Stream of training data, a pure function of the seed and the position.

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
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from detectron2.data.build import worker_init_reset_seed
from detectron2.utils import comm
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from lt_det.data.records.stored_records import StoredRecords
from lt_det.engine.loading.aspect_ratio_batches import AspectRatioBatches
from lt_det.engine.loading.record_errors import name_records, naming_record
from lt_det.storage.regular_file import check_regular


def seed_everything(*entropy: int) -> None:
    """Seed python, numpy and torch by a hash of several non-negative numbers."""
    words = _hashed(*entropy)
    random.seed(words[0])
    np.random.seed(words[1])
    torch.manual_seed(words[2])


@contextlib.contextmanager
def seeded(*entropy: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed python, numpy and torch in the block; give back the states of before at its end.

    Args:
        entropy: non-negative numbers.
        device: GPU that is seeded as well.
    """
    generators = [torch.default_generator]
    if device is not None and device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    before = random.getstate(), np.random.get_state(), [g.get_state() for g in generators]
    words = _hashed(*entropy)
    random.seed(words[0])
    np.random.seed(words[1])
    for generator in generators:
        # Not torch.manual_seed(): it seeds all GPUs, which the step draws from.
        generator.manual_seed(words[2])
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        for generator, state in zip(generators, before[2]):
            generator.set_state(state)


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
        with naming_record(item, self.mapper), self._seeded(position):
            return self.mapper(item)

    def _seeded(self, position: int) -> AbstractContextManager[None]:
        if self.seed is None:
            return contextlib.nullcontext()
        return seeded(self.seed, position, self.rank)


class PositionedBatches(PositionedDataset):
    """``mapper([items[i], ...])`` of whole batches, under the random state of their first sample.

    For small images: seeding and augmenting one by one takes longer than the training step.
    """

    def __getitem__(self, codes: Any) -> Any:
        places = [divmod(int(code), len(self.items)) for code in codes]
        samples = [self.items[index] for _, index in places]
        if self.mapper is None:
            return samples
        try:
            with self._seeded(places[0][0]):
                return self.mapper(samples)
        except Exception as error:
            name_records(samples, self.mapper, error)
            raise


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
