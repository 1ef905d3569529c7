"""Class statistics of a json file, and a cache of them.

LVIS v1 train is 1.1 GB: reading takes half a minute and gigabytes of memory, which every start
of a training run would pay. The cache is keyed by the content of the json, so it can be neither
stale nor in need of clearing.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lt_det.data.annotations.areas import check_areas, image_sizes
from lt_det.data.annotations.checks import NUM_NAMED, check_annotations
from lt_det.data.annotations.json_file import (
    check_exists,
    contiguous_ids,
    in_contiguous_order,
    read_annotation_json,
    read_categories,
)
from lt_det.data.annotations.schema import check_image_sizes
from lt_det.data.stats.class_stats import ClassStats
from lt_det.data.stats.frequency_groups import frequency_groups
from lt_det.data.stats.json_stats import (
    CountSource,
    count_checked_json,
    declared_frequency_groups,
)
from lt_det.data.warn_once import warn_of
from lt_det.storage.atomic_write import atomic_file
from lt_det.storage.cache_folder import usable_cache_folder, warn_not_cached
from lt_det.storage.digest import content_hash, key_of
from lt_det.storage.regular_file import open_regular

logger = logging.getLogger(__name__)

# Goes into the key: raise it when the same json would be counted, or warned of, differently.
_CACHE_VERSION = 5


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

    What the checks find doubtful is kept with the counts and said at every start.

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

    def count() -> tuple[ClassStats, list[str]]:
        content = read_annotation_json(json_file, name=name, keep_segmentations=False)
        warnings = check_annotations(content, name=name)
        stats, more = count_checked_json(
            content, name=name, class_names=class_names, id_map=id_map, count_source=count_source
        )
        return stats, warnings + more

    options = [
        count_source,
        None if class_names is None else list(class_names),
        None if id_map is None else sorted(id_map.items()),
    ]
    stats = _cached(json_file, count, options=options, name=name, cache_dir=cache_dir)
    categories = read_categories(json_file, name=name)
    ids = contiguous_ids(categories) if id_map is None else dict(id_map)
    _warn_if_recounted(in_contiguous_order(categories, ids, name=name), stats, name=name)
    return stats


def evaluation_stats_of_json(
    json_file: str | os.PathLike[str],
    *,
    name: str,
    cache_dir: str | os.PathLike[str] | None = None,
) -> ClassStats:
    """Return the counts of a json that is evaluated on, in the order of its own category ids.

    All that reading it for the evaluation would refuse or warn of is so here, before a training.

    Args:
        json_file: path.
        name: data set, for messages.
        cache_dir: folder of the cache. Default:
            :func:`~lt_det.storage.cache_folder.default_cache_folder`.

    Returns:
        All zero for a json without annotations (a test split).

    Raises:
        FileNotFoundError: names the path and the environment variable ``DETECTRON2_DATASETS``.
        ValueError: as :func:`~lt_det.data.annotations.checks.check_annotations`.
    """
    check_exists(json_file, name=name)

    def count() -> tuple[ClassStats, list[str]]:
        content = read_annotation_json(json_file, name=name, keep_segmentations=False)
        content.setdefault("annotations", [])
        warnings = check_annotations(content, name=name)
        check_image_sizes(content["images"], name=name)
        warnings += check_areas(content["annotations"], image_sizes(content["images"]))
        return count_checked_json(content, name=name, count_source="annotations")[0], warnings

    return _cached(json_file, count, options=["test"], name=name, cache_dir=cache_dir)


def _cached(
    json_file: str | os.PathLike[str],
    count: Callable[[], tuple[ClassStats, list[str]]],
    *,
    options: Sequence[Any],
    name: str,
    cache_dir: str | os.PathLike[str] | None,
) -> ClassStats:
    folder = usable_cache_folder(cache_dir)
    digest = content_hash(json_file, cache_dir=folder)
    path = (
        None
        if folder is None
        else folder / f"class_stats_{key_of([digest, _CACHE_VERSION, *options])}.json"
    )
    found = None if path is None else _read_cached(path)
    if found is None:
        found = count()
        if path is not None:
            _write_cached(path, *found)
    stats, warnings = found
    warn_of(warnings, name=name)
    return replace(stats, name=name)


def write_class_stats(stats: ClassStats, path: str | os.PathLike[str]) -> None:
    """Write a json that :func:`read_class_stats` reads; atomically, as several ranks may do so.

    Args:
        stats: what to write.
        path: file; its folder is made if it does not exist.
    """
    _write(path, stats.to_dict())


def _write(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    with atomic_file(path) as file:
        json.dump(content, file, indent=1)


def read_class_stats(path: str | os.PathLike[str]) -> ClassStats:
    """Return what :func:`write_class_stats` wrote, or the counts of a file in the cache.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds something else.
    """
    return _read(path)[0]


def _read(path: str | os.PathLike[str]) -> tuple[ClassStats, list[str]]:
    with open_regular(path, "r", encoding="utf-8") as file:
        values = json.load(file)
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold class statistics, got a {type(values).__name__}")
    if "checksum" in values and values.pop("checksum") != _checksum(values, path):
        raise ValueError(f"{path} does not have the checksum with which it was written")
    warnings = values.pop("warnings", [])
    return ClassStats.from_dict(values), list(map(str, warnings))


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


def _read_cached(path: Path) -> tuple[ClassStats, list[str]] | None:
    """Return what the cache holds, or None; a broken file costs a warning, not the run."""
    try:
        open_regular(path, own=True).close()
        return _read(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        logger.warning("Ignoring the broken cache file %s (%s); counting again", path, error)
        return None


def _write_cached(path: Path, stats: ClassStats, warnings: Sequence[str]) -> None:
    values = {**stats.to_dict(), "warnings": list(warnings)}
    try:
        _write(path, {**values, "checksum": _checksum(values, path)})
    except OSError as error:
        warn_not_cached(path.parent, error)
