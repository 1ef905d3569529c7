"""Hash files and keys; a large file is read again only after a change.

A small file in the cache folder remembers the hash together with what the file system says of the
file: device, inode, size and the times of the last change of content and of attributes, in
nanoseconds. Whatever is done to a file moves the last one, also if its size stays the same and the
time of change is set back (``cp -p``, ``rsync -t``, ``touch -d``): then it is read and hashed anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from lt_det.storage.atomic_write import atomic_file
from lt_det.storage.cache_folder import warn_not_cached
from lt_det.storage.regular_file import open_regular

# File systems count time in steps of up to 2 s: a file changed within one of them looks unchanged.
_SETTLED_SECONDS = 3.0


def hash_file(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file's bytes, hexadecimal.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no regular file.
    """
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def key_of(value: Any) -> str:
    """Return 32 hexadecimal digits that name what depends on ``value`` and on nothing else.

    Args:
        value: what json holds; the order in a dict is no matter.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def content_hash(path: str | os.PathLike[str], *, cache_dir: str | os.PathLike[str] | None) -> str:
    """Return the sha256 of a file's bytes, hexadecimal.

    Args:
        path: file.
        cache_dir: where hashes are remembered, a
            :func:`~lt_det.storage.cache_folder.usable_cache_folder`; None for nowhere.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no regular file.
    """
    if cache_dir is None:
        return hash_file(path)
    state = file_state(path)
    note = Path(cache_dir) / f"hash_{key_of(os.path.realpath(path))}.json"
    try:
        with open_regular(note, own=True) as file:
            known = json.load(file)
        if known["state"] == state:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # no note, or a broken one: it is written anew
    started = time.time()
    digest = hash_file(path)
    last_change = max(os.stat(path).st_mtime, os.stat(path).st_ctime)
    if file_state(path) == state and started - last_change > _SETTLED_SECONDS:
        try:
            with atomic_file(note) as file:
                json.dump({"path": os.path.realpath(path), "state": state, "sha256": digest}, file)
        except OSError as error:
            warn_not_cached(note.parent, error)
    return digest


def file_state(path: str | os.PathLike[str]) -> list[int]:
    """Return what the file system says of a file; other numbers mean another content."""
    stat = os.stat(path)
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
