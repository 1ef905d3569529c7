"""Streams of training and meta batches, from images or from cached features."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from detectron2.data import get_detection_dataset_dicts
from detectron2.utils import comm
from torch import nn
from torch.utils.data import Sampler

from lt_det.data.sampling.class_rate_sampler import ClassRateSampler
from lt_det.data.sampling.samplers import classes_of_images
from lt_det.engine.loading.build import build_meta_stream, build_train_stream, shared_seed
from lt_det.engine.loading.image_lists import ListedRegionStore, build_listed_mapper
from lt_det.engine.loading.train_stream import TrainStream
from lt_det.engine.meta.batches import (
    MetaBatches,
    cached_regions,
    regions_by_forward,
    whole_images,
)
from lt_det.engine.meta.region_bank import RegionBank
from lt_det.engine.regions.cache import build_region_cache
from lt_det.engine.regions.store import ImageRegions
from lt_det.meta.meta_learner import MetaLearner
from lt_det.meta.meta_sampler import MetaSampler
from lt_det.modeling.trainer_keys import OF_LOADER, OF_TRAINER, obeyed
from lt_det.tasks import build_task
from lt_det.tasks.listed_mapper import ListedMapper
from lt_det.tasks.train_samplers import build_train_sampler, class_balanced_sampler

logger = logging.getLogger(__name__)


def build_streams(
    cfg: Any,
    detector: nn.Module,
    loader: Iterable[list],
    *,
    start_iter: int,
    meta: MetaLearner | None = None,
) -> tuple[Iterable[list], MetaBatches | None]:
    """Return training batches and, with LT_DET.META.ENABLED, meta batches.

    Args:
        cfg: config.
        detector: with its weights loaded; computes the region cache where one is asked for.
        loader: of the training set. Meta batches, the Meta Sampler and the region cache take
            images and mapper from a :class:`TrainStream`; of any other loader these are not
            known, and it cannot start late.
        start_iter: both begin with the batch of this iteration.
        meta: a Meta Sampler says which images are drawn.

    Raises:
        ValueError: if the region cache or the Meta Sampler is asked to do without a
            :class:`TrainStream`.
    """
    meta_batches: MetaBatches | None = None
    known = loader if isinstance(loader, TrainStream) else None
    if known is None:
        _warn_unknown(cfg, loader)
    if cfg.LT_DET.REGION_CACHE.ENABLED:
        if known is None:
            raise ValueError(
                "LT_DET.REGION_CACHE.ENABLED needs to know images and mapper: build_train_loader "
                f"must return a TrainStream, got {type(loader).__name__}"
            )
        detector.train()
        dicts = known.records()
        mapper = known.mapper
        listed = mapper if isinstance(mapper, ListedMapper) else None
        if listed is not None:
            mapper = listed.mapper  # features do not depend on lists: runs without share the cache
        records = build_region_cache(cfg, detector, dicts, mapper=mapper)
        items = records if listed is None else ListedRegionStore(records, dicts, listed)
        dicts = dicts * cfg.LT_DET.REGION_CACHE.EPOCHS
        sampler = build_train_sampler(cfg, dicts, seed=shared_seed(cfg))
        loader = known = TrainStream(items, sampler=sampler, ims_per_batch=cfg.SOLVER.IMS_PER_BATCH)
        if cfg.LT_DET.META.ENABLED:
            classes = records.classes_of_images(num_classes=build_task(cfg).num_classes())
            meta_batches = _cached_meta(cfg, detector, items, classes)
    else:
        dicts = known.records() if known is not None and isinstance(meta, MetaSampler) else ()
        if cfg.LT_DET.META.ENABLED:
            meta_batches = _model_meta(cfg, detector, known or build_train_stream(cfg))
    if isinstance(meta, MetaSampler):
        if known is None:
            raise ValueError(
                "LT_DET.META.METHOD 'sampler' draws the images: build_train_loader must return a "
                f"TrainStream, got {type(loader).__name__}"
            )
        _warn_ahead(cfg)
        loader = known = known.with_sampler(_rate_sampler(cfg, meta, dicts))
    if known is not None:
        known.start_at(start_iter)
    if meta_batches is not None:
        # psi has moved in every iteration so far that is a multiple of the interval.
        meta_batches.start_at(-(-start_iter // cfg.LT_DET.META.INTERVAL))
    return loader, meta_batches


def obey_keys(cfg: Any, detector: nn.Module, loader: Iterable[list]) -> None:
    """Mark the keys that a trainer with these training batches obeys.

    Raises:
        ValueError: if LT_DET says how to draw or paste, and the loader is not this package's.
    """
    keys = [key for key in OF_LOADER if attrgetter(key)(cfg)]
    if keys and not isinstance(loader, TrainStream):
        raise ValueError(
            f"{' and '.join(keys)} would do nothing: build_train_loader returns a "
            f"{type(loader).__name__} and no TrainStream. Return build_train_loader(cfg, "
            "mapper=...) of LongTailTrainer, or leave the key at its default"
        )
    # Who freezes, and who steps with a meta learner, says so.
    elsewhere = ("LT_DET.DECOUPLED", "LT_DET.CLASSIFIER.DISALIGN", "LT_DET.META.ENABLED")
    obeyed(detector, *keys, *(key for key in OF_TRAINER if key not in elsewhere))


def _warn_unknown(cfg: Any, loader: Iterable[list]) -> None:
    logger.warning(
        "build_train_loader returns a %s and no TrainStream: a resumed run gets other batches "
        "than an uninterrupted one%s. Return build_train_loader(cfg, mapper=...) of "
        "LongTailTrainer instead where only the mapper is another one",
        type(loader).__name__,
        ", and meta batches have Detectron2's mapper" if cfg.LT_DET.META.ENABLED else "",
    )


def _warn_ahead(cfg: Any) -> None:
    workers = 0 if cfg.LT_DET.REGION_CACHE.ENABLED else cfg.DATALOADER.NUM_WORKERS
    if workers:
        logger.warning(
            "LT_DET.META.METHOD 'sampler': with DATALOADER.NUM_WORKERS %d batches are drawn up to "
            "%d iterations ahead, with the rates of then, so a resumed run is not bit by bit that "
            "of an uninterrupted one; with NUM_WORKERS 0 it is",
            workers,
            2 * workers,
        )


def _rate_sampler(cfg: Any, meta: MetaSampler, dicts: Sequence[dict]) -> Sampler:
    return ClassRateSampler(
        [classes[0] for classes in classes_of_images(dicts)],
        lambda: meta.class_probabilities().cpu().numpy(),
        batch_size=cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
        seed=shared_seed(cfg),
        rank=comm.get_rank(),
    )


def _meta_ims_per_batch(cfg: Any) -> int:
    return cfg.LT_DET.META.IMS_PER_BATCH or cfg.SOLVER.IMS_PER_BATCH


def _model_meta(cfg: Any, model: Any, training: TrainStream) -> MetaBatches:
    node = cfg.LT_DET.META
    if node.DATASETS:
        dicts = get_detection_dataset_dicts(node.DATASETS)
        mapper = training.mapper
        if isinstance(mapper, ListedMapper):  # of the training set's categories and lists
            mapper = build_listed_mapper(cfg, dicts, mapper.mapper, names=node.DATASETS)
        training = build_train_stream(cfg, dicts, mapper=mapper)
    ims_per_batch = _meta_ims_per_batch(cfg)
    if node.SCOPE == "network" or _meta_regions(cfg) == "forward":
        stream = build_meta_stream(cfg, training, ims_per_batch=ims_per_batch)
        regions_of = whole_images if node.SCOPE == "network" else regions_by_forward
        return MetaBatches(stream, partial(regions_of, model))
    bank = RegionBank(
        model,
        build_meta_stream(cfg, training, ims_per_batch=comm.get_world_size()),
        num_images=node.BANK_IMAGES,
        renewed=node.BANK_RENEWAL * ims_per_batch / comm.get_world_size(),
        seed=shared_seed(cfg) + 2,
    )
    # Its images are drawn class-balanced, so from it they are drawn evenly: as if of one class.
    return _cached_meta(cfg, model, bank, [[0]] * len(bank), bank=bank)


def _meta_regions(cfg: Any) -> str:
    """Return the value of LT_DET.META.REGIONS, or its default for the task."""
    if cfg.LT_DET.META.REGIONS:
        return str(cfg.LT_DET.META.REGIONS)
    # Small images are augmented in whole batches, of which a bank of single images has nothing.
    return "forward" if build_task(cfg).one_class_an_image else "bank"


def _cached_meta(
    cfg: Any,
    model: nn.Module,
    records: Sequence[ImageRegions],
    classes: list[list[int]],
    *,
    bank: RegionBank | None = None,
) -> MetaBatches:
    stream = TrainStream(
        records,
        sampler=class_balanced_sampler(classes, seed=shared_seed(cfg) + 1),
        ims_per_batch=_meta_ims_per_batch(cfg),
    )
    return MetaBatches(stream, partial(cached_regions, model), bank=bank)
