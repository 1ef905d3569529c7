"""Training records through the cache: the json is parsed at the first start only.

Only data sets whose registered function is known to read nothing but their json are cached:
Detectron2's for COCO and LVIS format, and
:func:`~lt_det.data.annotations.datasets.register_lvis_format`. All others go Detectron2's way.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Sequence
from typing import Any

import detectron2
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.build import print_instances_class_histogram
from detectron2.data.detection_utils import check_metadata_consistency
from detectron2.utils.file_io import PathManager

from lt_det.data.annotations.checks import is_crowd
from lt_det.data.annotations.datasets import load_lvis_format_json
from lt_det.data.annotations.json_file import check_exists
from lt_det.data.records.record_cache import SMALLEST, cached_records
from lt_det.data.records.stored_records import StoredRecords
from lt_det.version import __version__

logger = logging.getLogger(__name__)

_DETECTRON2_READERS = {
    ("detectron2.data.datasets.coco", "register_coco_instances.<locals>.<lambda>"),
    ("detectron2.data.datasets.lvis", "register_lvis_instances.<locals>.<lambda>"),
}
# What reading a json adds to the metadata of its data set.
_METADATA_KEYS = ("thing_classes", "thing_dataset_id_to_contiguous_id", "class_image_count")


def build_train_dicts(cfg: Any) -> Sequence[dict]:
    """Return Detectron2's data set dicts of DATASETS.TRAIN.

    Raises:
        ValueError: if there is no image left to train on.
    """
    names = cfg.DATASETS.TRAIN
    dicts: Sequence[dict]
    # Both change the records, or look into each.
    if cfg.MODEL.LOAD_PROPOSALS or cfg.MODEL.KEYPOINT_ON:
        dicts = get_detection_dataset_dicts(
            names,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=(
                cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
            ),
            proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
        )
    else:
        dicts = detection_dicts(names, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)
    if not len(dicts):
        raise ValueError(f"DATASETS.TRAIN {tuple(names)} holds no image with annotations")
    return dicts


def detection_dicts(
    names: str | Sequence[str],
    *,
    filter_empty: bool = True,
    cache_dir: str | os.PathLike[str] | None = None,
    smallest: int = SMALLEST,
) -> Sequence[dict]:
    """Return what Detectron2's ``get_detection_dataset_dicts`` returns, from the cache.

    Usable in its place in a LazyConfig; give it to the loader as it is, it needs no
    ``DatasetFromList``.

    Args:
        names: registered data sets, trained on together.
        filter_empty: leave out images without an annotation that is no crowd.
        cache_dir: default: :func:`lt_det.storage.cache_folder.default_cache_folder`.
        smallest: jsons of fewer bytes are read as before.

    Returns:
        :class:`StoredRecords`, or a list where a data set cannot be cached.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names or not all(_is_known(name) for name in names):
        return get_detection_dataset_dicts(names, filter_empty=filter_empty)
    dicts = StoredRecords.joined(
        [_records_of(name, cache_dir=cache_dir, smallest=smallest) for name in names]
    )
    index, classes, crowds = dicts.instances()
    if filter_empty:
        kept = np.unique(index[~crowds])
        logger.info(
            "Removed %d images with no usable annotations. %d images left.",
            len(dicts) - len(kept),
            len(kept),
        )
        dicts = dicts.take(kept)
    class_names = MetadataCatalog.get(names[0]).get("thing_classes")
    if class_names is not None:
        check_metadata_consistency("thing_classes", names)
        # One entry with all annotations: it makes a histogram over all classes for each.
        shared = [{"category_id": k} for k in range(int(classes.max(initial=-1)) + 1)]
        entry = {"annotations": [shared[k] for k in classes[~crowds].tolist()]}
        print_instances_class_histogram([entry], class_names)
    return dicts


def _write_flags_as_numbers(records: Sequence[dict]) -> None:
    """Write crowd flags as 0 or 1: Detectron2 takes all but 0 for a crowd, also "0" and None."""
    for record in records:
        for annotation in record.get("annotations", ()):
            if annotation.get("iscrowd", 0) not in (0, 1):
                annotation["iscrowd"] = int(is_crowd(annotation))


def _is_known(name: str) -> bool:
    """Return whether the data set is read by a function that depends on its json alone."""
    function = DatasetCatalog[name] if name in DatasetCatalog.list() else None
    if isinstance(function, functools.partial):
        return function.func is load_lvis_format_json
    where = (getattr(function, "__module__", None), getattr(function, "__qualname__", None))
    return where in _DETECTRON2_READERS and bool(MetadataCatalog.get(name).get("json_file"))


def _records_of(
    name: str, *, cache_dir: str | os.PathLike[str] | None, smallest: int
) -> StoredRecords:
    metadata = MetadataCatalog.get(name)
    json_file = PathManager.get_local_path(os.fspath(metadata.json_file))
    check_exists(json_file, name=name)
    function = DatasetCatalog[name]
    # Where our own reader looks for the images depends on which files there are.
    looks_for_images = isinstance(function, functools.partial)

    def load() -> tuple[Sequence[dict], dict[str, Any]]:
        records = DatasetCatalog.get(name)
        _write_flags_as_numbers(records)
        found = {key: metadata.get(key) for key in _METADATA_KEYS}
        return records, {key: value for key, value in found.items() if value is not None}

    def is_valid(records: StoredRecords) -> bool:
        agrees = all(metadata.get(key, value) == value for key, value in records.about.items())
        if not agrees or not looks_for_images or not len(records):
            return agrees
        return os.path.isfile(records[0]["file_name"])

    records = cached_records(
        json_file,
        load,
        options=[
            detectron2.__version__,
            __version__,
            getattr(function, "__module__", "lt_det"),
            name,
            os.fspath(metadata.get("image_root", "")),
        ],
        is_valid=is_valid,
        cache_dir=cache_dir,
        smallest=smallest,
    )
    metadata.set(**{key: v for key, v in records.about.items() if metadata.get(key) is None})
    return records
