"""Training and meta batches of a run, from images or from cached regions."""

from __future__ import annotations

import logging
from typing import Any, Iterable, Sequence, Union

from detectron2.utils import comm
from torch import nn

from lt_det.engine.meta_batches import (
    CachedMetaBatches,
    ForwardMetaBatches,
    fill_bank,
)
from lt_det.engine.region_cache import build_region_cache
from lt_det.engine.region_store import ImageRegions
from lt_det.engine.train_loader import (
    TrainStream,
    build_meta_stream,
    build_train_stream,
    shared_seed,
)
from lt_det.engine.train_samplers import build_train_sampler, class_balanced_sampler
from lt_det.modeling.build import model_num_classes

MetaSource = Union[ForwardMetaBatches, CachedMetaBatches]


logger = logging.getLogger(__name__)


def build_streams(
    cfg: Any, detector: nn.Module, loader: Iterable[list], *, start_iter: int
) -> tuple[Iterable[list], MetaSource | None]:
    """Return training batches and, with LT_DET.META.ENABLED, meta batches.

    Args:
        cfg: config.
        detector: with its weights loaded; computes the region cache where one is asked for.
        loader: of the training set. Meta batches and the region cache take images and mapper
            from a :class:`TrainStream`; of any other loader these are not known, and it cannot
            start late.
        start_iter: both begin with the batch of this iteration.

    Raises:
        ValueError: if the region cache is asked to do without a :class:`TrainStream`.
    """
    meta: MetaSource | None = None
    known = loader if isinstance(loader, TrainStream) else None
    if known is None:
        logger.warning(
            "build_train_loader returns a %s and no TrainStream: a resumed run gets other batches "
            "than an uninterrupted one%s. Return build_train_loader(cfg, mapper=...) of "
            "LongTailTrainer instead where only the mapper is another one",
            type(loader).__name__,
            ", and meta batches have Detectron2's mapper" if cfg.LT_DET.META.ENABLED else "",
        )
    if cfg.LT_DET.REGION_CACHE.ENABLED:
        if known is None:
            raise ValueError(
                "LT_DET.REGION_CACHE.ENABLED needs to know images and mapper: build_train_loader "
                f"must return a TrainStream, got {type(loader).__name__}"
            )
        detector.train()
        dicts = known.records()
        records = build_region_cache(cfg, detector, dicts, mapper=known.mapper)
        sampler = build_train_sampler(
            cfg, dicts * cfg.LT_DET.REGION_CACHE.EPOCHS, seed=shared_seed(cfg)
        )
        loader = known = TrainStream(
            records, sampler=sampler, ims_per_batch=cfg.SOLVER.IMS_PER_BATCH
        )
        if cfg.LT_DET.META.ENABLED:
            classes = records.classes_of_images(num_classes=model_num_classes(cfg))
            meta = _cached_meta(cfg, detector, records, classes)
    elif cfg.LT_DET.META.ENABLED:
        meta = _detector_meta(cfg, detector, known or build_train_stream(cfg))
    if known is not None:
        known.start_at(start_iter)
    if meta is not None:
        # psi has moved in every iteration so far that is a multiple of the interval.
        meta.start_at(-(-start_iter // cfg.LT_DET.META.INTERVAL))
    return loader, meta


def _meta_ims_per_batch(cfg: Any) -> int:
    return cfg.LT_DET.META.IMS_PER_BATCH or cfg.SOLVER.IMS_PER_BATCH


def _detector_meta(cfg: Any, detector: nn.Module, training: TrainStream) -> MetaSource:
    ims_per_batch = _meta_ims_per_batch(cfg)
    stream = build_meta_stream(cfg, training, ims_per_batch=ims_per_batch)
    if cfg.LT_DET.META.REGIONS == "forward":
        return ForwardMetaBatches(detector, stream)
    detector.train()
    bank = fill_bank(
        detector,
        stream,
        num_images=cfg.LT_DET.META.BANK_IMAGES,
        ims_per_forward=ims_per_batch // comm.get_world_size(),
    )
    # Its images were drawn class-balanced, so now they are drawn evenly: as if of one class.
    return _cached_meta(cfg, detector, bank, [[0]] * len(bank))


def _cached_meta(
    cfg: Any, detector: nn.Module, records: Sequence[ImageRegions], classes: list[list[int]]
) -> CachedMetaBatches:
    stream = TrainStream(
        records,
        sampler=class_balanced_sampler(classes, seed=shared_seed(cfg) + 1),
        ims_per_batch=_meta_ims_per_batch(cfg),
    )
    return CachedMetaBatches(stream, device=next(detector.parameters()).device)
