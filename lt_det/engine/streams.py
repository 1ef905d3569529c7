"""Training and meta batches of a run, from images or from cached regions."""

from __future__ import annotations

from typing import Any, Sequence, Union

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


def build_streams(
    cfg: Any, detector: nn.Module, dicts: Sequence[dict], *, start_iter: int
) -> tuple[TrainStream, MetaSource | None]:
    """Return training batches and, with LT_DET.META.ENABLED, meta batches.

    Args:
        cfg: config.
        detector: with its weights loaded; computes the region cache where one is asked for.
        dicts: data set dicts of the training set.
        start_iter: both begin with the batch of this iteration.
    """
    meta: MetaSource | None = None
    if cfg.LT_DET.REGION_CACHE.ENABLED:
        detector.train()
        records = build_region_cache(cfg, detector, dicts)
        sampler = build_train_sampler(
            cfg, dicts * cfg.LT_DET.REGION_CACHE.EPOCHS, seed=shared_seed(cfg)
        )
        stream = TrainStream(records, sampler=sampler, ims_per_batch=cfg.SOLVER.IMS_PER_BATCH)
        if cfg.LT_DET.META.ENABLED:
            classes = records.classes_of_images(num_classes=model_num_classes(cfg))
            meta = _cached_meta(cfg, detector, records, classes)
    else:
        stream = build_train_stream(cfg, dicts)
        if cfg.LT_DET.META.ENABLED:
            meta = _detector_meta(cfg, detector, dicts)
    stream.start_at(start_iter)
    if meta is not None:
        # psi has moved in every iteration so far that is a multiple of the interval.
        meta.start_at(-(-start_iter // cfg.LT_DET.META.INTERVAL))
    return stream, meta


def _meta_ims_per_batch(cfg: Any) -> int:
    return cfg.LT_DET.META.IMS_PER_BATCH or cfg.SOLVER.IMS_PER_BATCH


def _detector_meta(cfg: Any, detector: nn.Module, dicts: Sequence[dict]) -> MetaSource:
    ims_per_batch = _meta_ims_per_batch(cfg)
    stream = build_meta_stream(cfg, dicts, ims_per_batch=ims_per_batch)
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
