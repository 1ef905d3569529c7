"""Warning of images that are trained and evaluated on; it compares paths and opens no image."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from lt_det.data.annotations.json_file import read_annotation_json
from lt_det.data.annotations.lvis_format import image_path_rule
from lt_det.data.annotations.naming import NUM_NAMED
from lt_det.data.images.datasets import EVALUATOR_TYPE
from lt_det.data.inspection.equal_files import resolved
from lt_det.data.inspection.shared_images import LEAK
from lt_det.data.records.record_cache import SMALLEST
from lt_det.data.warn_once import warn_once


def warn_of_shared_images(cfg: Any, records: Iterable[dict]) -> None:
    """Warn for each set of DATASETS.TEST some of whose images are among records trained on.

    Sets whose json is large are left out: lt-det check-data compares all.

    Args:
        cfg: config.
        records: of the training set, all or some.
    """
    sets: dict[str, list[str]] = {}
    for name in cfg.DATASETS.TEST:
        # What is wrong with a test set is said by those who evaluate it.
        with contextlib.suppress(ValueError, OSError, KeyError, TypeError, StopIteration):
            sets[name] = _image_paths(name)
    if not any(sets.values()):
        return
    files = (record.get("file_name", "") for record in records)
    trained = set(resolved(file for file in files if _is_local(file)))
    for name, paths in sets.items():
        both = [path for path, place in zip(paths, resolved(paths)) if place in trained]
        if both:
            warn_once(
                f"DATASETS.TEST {name!r}: {len(both)} of {len(paths)} images are trained on too "
                f"(DATASETS.TRAIN), first {', '.join(both[:NUM_NAMED])}: {LEAK}"
            )


def _image_paths(name: str) -> list[str]:
    """Return the image files of a test set; [] of one that takes long to read, or has none."""
    metadata = MetadataCatalog.get(name)
    if metadata.get("evaluator_type") == EVALUATOR_TYPE:
        files = [record.get("file_name") for record in DatasetCatalog.get(name)]
        return [file for file in files if _is_local(file)]
    json_file = os.fspath(metadata.get("json_file") or "")
    if not os.path.isfile(json_file) or os.path.getsize(json_file) >= SMALLEST:
        return []
    images = read_annotation_json(json_file, name=name, keep_segmentations=False)["images"]
    path_of = image_path_rule(images, metadata.get("image_root") or "")
    return [path for path in map(path_of, images) if _is_local(path)]


def _is_local(file: Any) -> bool:
    return isinstance(file, str) and file != "" and "://" not in file
