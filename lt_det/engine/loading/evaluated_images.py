"""Look at the images of a test set before a run, and not at the end of it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from lt_det.data.annotations.json_file import read_annotation_json
from lt_det.data.annotations.lvis_format import image_path_rule
from lt_det.data.images.depth import deep_images, deep_images_text
from lt_det.data.images.first_look import check_image_files, some_of
from lt_det.data.records.record_cache import SMALLEST
from lt_det.data.warn_once import warn_once

logger = logging.getLogger(__name__)


def check_evaluated_images(name: str) -> None:
    """Raise for images that the evaluation would stop at, and warn of more than 8 bits.

    Args:
        name: registered test set of a detector with, or without, a json; of others nothing is
            looked at.

    Raises:
        ValueError: as :func:`~lt_det.data.images.first_look.check_image_files`.
    """
    records = _records(name)
    check_image_files(records, what=f"DATASETS.TEST {name!r}")
    deep = deep_images(
        file for record in some_of(records) if isinstance(file := record.get("file_name"), str)
    )
    if deep:
        warn_once(f"DATASETS.TEST, {deep_images_text(deep, name=name)}")


def _records(name: str) -> Sequence[dict[str, Any]]:
    """Return records with file name and size; of a large json without annotations."""
    metadata = MetadataCatalog.get(name)
    json_file = os.fspath(metadata.get("json_file") or "")
    if not os.path.isfile(json_file):
        return []
    if os.path.getsize(json_file) < SMALLEST:
        return DatasetCatalog.get(name)
    images = read_annotation_json(json_file, name=name, object_hook=_without_annotation)["images"]
    path_of = image_path_rule(images, metadata.get("image_root") or "")
    if not images or not os.path.isfile(path_of(images[0])):
        # A reader of one's own may find them elsewhere.
        logger.info("DATASETS.TEST %r: images were not looked at, the first is not there", name)
        return []
    keys = ("width", "height")
    return [{"file_name": path_of(one), **{key: one.get(key) for key in keys}} for one in images]


def _without_annotation(entry: dict[str, Any]) -> dict[str, Any] | None:
    return None if "category_id" in entry else entry
