"""Cache of the data set dicts of a large json: parsed once for a machine.

The cache is keyed by the content of the json and by all else that the dicts depend on, so it can
be stale in no way but one: images that were moved, which ``is_valid`` of the caller finds out.
Whatever is wrong with the cache costs a log line and the time of parsing, never the run.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lt_det.data.records.stored_records import StoredRecords, write_records
from lt_det.data.warn_once import warn_once
from lt_det.storage.cache_folder import usable_cache_folder, warn_not_cached
from lt_det.storage.digest import content_hash, file_state, key_of
from lt_det.storage.locks import file_lock
from lt_det.storage.regular_file import check_regular

logger = logging.getLogger(__name__)

# Goes into the key: raise it when the same json would give other records.
_CACHE_VERSION = 4
# Smaller files (bytes) are parsed in less than a second: not worth a file in the cache.
SMALLEST = 8 * 2**20


def cached_records(
    json_file: str | os.PathLike[str],
    load: Callable[[], tuple[Sequence[Mapping[str, Any]], Any]],
    *,
    options: Sequence[Any],
    is_valid: Callable[[StoredRecords], bool] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    smallest: int = SMALLEST,
    what: str = "",
) -> StoredRecords:
    """Return what ``load`` returns, from the cache if that was loaded before.

    Of several processes that start at once one parses and the others wait for its file.

    Args:
        json_file: what ``load`` reads.
        load: called without a valid file in the cache; returns data set dicts and plain types
            that come back as :attr:`StoredRecords.about`.
        options: all else that the records depend on; goes into the key as json.
        is_valid: whether records from the cache may be used; None for always. Records just
            loaded are not kept if it refuses them.
        cache_dir: default: :func:`lt_det.storage.cache_folder.default_cache_folder`.
        smallest: jsons of fewer bytes are not cached.
        what: they are, for the log; "" says how many records.

    Raises:
        FileNotFoundError: if there is no json.
        ValueError: if the json is a named pipe or another thing that is no file.
    """
    check_regular(json_file)
    if os.path.getsize(json_file) < smallest:
        return StoredRecords.packed(*load())
    folder = usable_cache_folder(cache_dir)
    if folder is None:
        return StoredRecords.packed(*load())
    state = file_state(json_file)
    digest = content_hash(json_file, cache_dir=folder)
    path = folder / f"records_{key_of([digest, _CACHE_VERSION, *options])}.bin"
    found = _read(path, is_valid, what)
    if found is not None:
        return found
    with file_lock(path.with_suffix(".lock")):
        found = _read(path, is_valid, what)
        if found is not None:
            return found
        records, about = load()
        if file_state(json_file) != state:
            logger.warning("%s changed while it was read; it is not cached", json_file)
            return StoredRecords.packed(records, about)
        return _write(path, records, about, is_valid, what)


def _read(
    path: Path, is_valid: Callable[[StoredRecords], bool] | None, what: str
) -> StoredRecords | None:
    start = time.perf_counter()
    try:
        records = StoredRecords.open(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # a broken file may break in any way
        warn_once(f"Ignoring the broken cache file {path} ({error}); reading the json")
        return None
    if is_valid is not None and not is_valid(records):
        return None
    seconds = time.perf_counter() - start
    what = what or f"{len(records)} records"
    logger.info("%s from the cache %s in %.2f s", what, path, seconds)
    return records


def _write(
    path: Path,
    records: Sequence[Mapping[str, Any]],
    about: Any,
    is_valid: Callable[[StoredRecords], bool] | None,
    what: str,
) -> StoredRecords:
    try:
        write_records(path, records, about=about)
        written = StoredRecords.open(path)
        if is_valid is None or is_valid(written):
            what = what or f"{len(written)} records"
            logger.info("Cached %s in %s (%.0f MB)", what, path, path.stat().st_size / 1e6)
            return written
        path.unlink()
    except (OSError, ValueError) as error:
        warn_not_cached(path.parent, error)
    return StoredRecords.packed(records, about)
