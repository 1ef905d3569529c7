"""Build the loaders of training, meta and test batches from a config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from detectron2.data.common import DatasetFromList
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import BatchSampler, DataLoader

from lt_det.data.images.depth import deep_images, deep_images_text
from lt_det.data.images.first_look import check_image_files, some_of
from lt_det.data.records.dataset_dicts import build_train_dicts
from lt_det.data.records.stored_records import StoredRecords
from lt_det.data.sampling.samplers import classes_of_images
from lt_det.engine.loading.aspect_ratio_batches import wide_images
from lt_det.engine.loading.copy_paste import build_copy_paste_mapper
from lt_det.engine.loading.image_lists import build_listed_mapper
from lt_det.engine.loading.shared_images import warn_of_shared_images
from lt_det.engine.loading.train_stream import PositionedBatches, TrainStream
from lt_det.tasks import build_task
from lt_det.tasks.train_samplers import build_train_sampler, class_balanced_sampler


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
            Detectron2's ``DatasetMapper`` of the config, with LT_DET.COPY_PASTE.ENABLED one
            that pastes first.

    Raises:
        ValueError: without a ``mapper``, if images are missing, cut, have another size than their
            json says or more than 8 bits a channel, or objects lack the mask that MODEL.MASK_ON
            asks for.
    """
    if dicts is None:
        dicts = build_train_dicts(cfg)
        warn_of_shared_images(cfg, some_of(dicts))
    task = build_task(cfg)
    name = ", ".join(cfg.DATASETS.TRAIN)
    if mapper is None:
        check_image_files(dicts, what=f"DATASETS.TRAIN {name!r}")
    if mapper is None and not task.one_class_an_image:
        _check_depth(dicts, name=name)
        if cfg.MODEL.MASK_ON:
            _check_masks(dicts, mask_format=cfg.INPUT.MASK_FORMAT)
    grouped = cfg.DATALOADER.ASPECT_RATIO_GROUPING and not task.one_class_an_image
    # Stored records, and records of images to classify, are shared by the workers as they are.
    shared = task.one_class_an_image or isinstance(dicts, StoredRecords)
    mapper = build_copy_paste_mapper(cfg, dicts, mapper)
    options = _mapped(cfg, mapper)
    options["mapper"] = build_listed_mapper(cfg, dicts, options["mapper"])
    return TrainStream(
        dicts if shared else DatasetFromList(dicts, copy=False),
        sampler=build_train_sampler(cfg, dicts, seed=shared_seed(cfg)),
        ims_per_batch=cfg.SOLVER.IMS_PER_BATCH,
        seed=cfg.SEED if cfg.SEED >= 0 else None,
        is_wide=wide_images(dicts) if grouped else None,
        **options,
    )


def _check_depth(dicts: Sequence[dict], *, name: str) -> None:
    """Raise for images that Detectron2's mapper would clip; of many records it looks at some."""
    deep = deep_images(record.get("file_name", "") for record in some_of(dicts))
    if deep:
        raise ValueError(f"DATASETS.TRAIN, {deep_images_text(deep, name=name)}")


def _check_masks(dicts: Sequence[dict], *, mask_format: str) -> None:
    """Raise for objects that Detectron2's mapper cannot make masks of; it looks at some records."""
    for record in some_of(dicts):
        kept = [one for one in record.get("annotations", ()) if not one.get("iscrowd", 0)]
        masks = [one.get("segmentation") for one in kept]
        if not all(masks):
            raise ValueError(
                f"MODEL.MASK_ON is True, but {masks.count(None) or 1} of {len(masks)} objects of "
                f"image {record.get('image_id')} in DATASETS.TRAIN have no mask ('segmentation'): "
                "draw them, or set MODEL.MASK_ON False"
            )
        if mask_format == "polygon" and any(isinstance(mask, dict) for mask in masks):
            raise ValueError(
                "INPUT.MASK_FORMAT is 'polygon', but masks of image "
                f"{record.get('image_id')} in DATASETS.TRAIN are run-length encoded: set "
                "INPUT.MASK_FORMAT bitmask"
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
        mapper = task.build_mapper(cfg, is_train=False)
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)
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
