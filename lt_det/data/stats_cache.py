"""Class statistics of a json file, and the cache that spares reading it again.

LVIS v1 train is 1.1 GB: reading takes half a minute and gigabytes of memory, which every start
of a training run would pay. The cache is keyed by the content of the json, so it can be neither
stale nor in need of clearing.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping, Sequence

from lt_det.data.annotation_checks import NUM_NAMED
from lt_det.data.annotation_json import (
    check_exists,
    contiguous_ids,
    in_contiguous_order,
    read_annotation_json,
    read_categories,
)
from lt_det.data.class_stats import ClassStats
from lt_det.data.frequency_groups import frequency_groups
from lt_det.data.json_stats import CountSource, count_json, declared_frequency_groups
from lt_det.storage.atomic_write import atomic_file
from lt_det.storage.cache_folder import usable_cache_folder, warn_not_cached
from lt_det.storage.digest import content_hash, key_of
from lt_det.storage.regular_file import open_regular

logger = logging.getLogger(__name__)

# Goes into the key: raise it when the same json would be counted differently.
_CACHE_VERSION = 1


def class_stats_of_json(
    json_file: str | os.PathLike[str],
    *,
    name: str,
    class_names: Sequence[str] | None = None,
    id_map: Mapping[int, int] | None = None,
    count_source: CountSource = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
) -> ClassStats:
    """Return :func:`count_json` of a file, from the cache if its content was counted before.

    Args:
        json_file: path.
        name: as in :func:`count_json`, and so the next three.
        class_names: see there.
        id_map: see there.
        count_source: see there.
        cache_dir: folder of the cache. Default:
            :func:`~lt_det.storage.cache_folder.default_cache_folder`.

    Raises:
        FileNotFoundError: names the path and the environment variable ``DETECTRON2_DATASETS``.
        ValueError: as :func:`count_json`.
    """
    check_exists(json_file, name=name)
    options = [
        _CACHE_VERSION,
        count_source,
        None if class_names is None else list(class_names),
        None if id_map is None else sorted(id_map.items()),
    ]
    folder = usable_cache_folder(cache_dir)
    digest = content_hash(json_file, cache_dir=folder)
    path = None if folder is None else folder / f"class_stats_{key_of([digest, options])}.json"
    stats = None if path is None else _read_cached(path)
    if stats is None:
        stats = count_json(
            read_annotation_json(json_file, name=name, keep_segmentations=False),
            name=name,
            class_names=class_names,
            id_map=id_map,
            count_source=count_source,
        )
        if path is not None:
            _write_cached(path, stats)
    categories = read_categories(json_file, name=name)
    ids = contiguous_ids(categories) if id_map is None else dict(id_map)
    _warn_if_recounted(in_contiguous_order(categories, ids, name=name), stats, name=name)
    return replace(stats, name=name)


def write_class_stats(stats: ClassStats, path: str | os.PathLike[str]) -> None:
    """Write a json that :func:`read_class_stats` reads; atomically, as several ranks may do so.

    Args:
        stats: what to write.
        path: file; its folder is made if it does not exist.
    """
    with atomic_file(path) as file:
        json.dump(stats.to_dict(), file, indent=1)


def read_class_stats(path: str | os.PathLike[str]) -> ClassStats:
    """Return what :func:`write_class_stats` wrote, or the cache.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds something else.
    """
    with open_regular(path, "r", encoding="utf-8") as file:
        values = json.load(file)
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold class statistics, got a {type(values).__name__}")
    if "checksum" in values and values.pop("checksum") != _checksum(values, path):
        raise ValueError(f"{path} does not have the checksum with which it was written")
    return ClassStats.from_dict(values)


def _checksum(values: Mapping[str, Any], path: str | os.PathLike[str]) -> str:
    """Return the sum of statistics and of the name of their file, which says whose they are."""
    return key_of([os.path.basename(path), values])


def _warn_if_recounted(
    categories: Sequence[Mapping[str, Any]], stats: ClassStats, *, name: str
) -> None:
    """Warn if the json's ``frequency`` is not the group that its image counts give."""
    declared = declared_frequency_groups(categories)
    if declared is None:
        return
    counted = frequency_groups(stats.image_counts)  # LVIS's limits, whatever the user's are
    differing = [
        f"{category['name']}: {says!r} by the json, {group!r} by {count} images"
        for category, says, group, count in zip(categories, declared, counted, stats.image_counts)
        if says != group
    ]
    if differing:
        logger.warning(
            "Data set %r: 'frequency' of %d of %d categories is not the group by image count, "
            "first %s. The counts are those of a subset or of another split than train; for "
            "priors and for APr, APc, APf count the training split.",
            name,
            len(differing),
            len(declared),
            differing[:NUM_NAMED],
        )


def _read_cached(path: Path) -> ClassStats | None:
    """Return what the cache holds, or None; a broken file costs a warning, not the run."""
    try:
        open_regular(path, own=True).close()
        return read_class_stats(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        logger.warning("Ignoring the broken cache file %s (%s); counting again", path, error)
        return None


def _write_cached(path: Path, stats: ClassStats) -> None:
    values = stats.to_dict()
    try:
        with atomic_file(path) as file:
            json.dump({**values, "checksum": _checksum(values, path)}, file, indent=1)
    except OSError as error:
        warn_not_cached(path.parent, error)
