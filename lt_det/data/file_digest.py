"""The hash of a large file's content, without reading the file at every start.

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
import uuid
from pathlib import Path

from lt_det.data.annotations.json_file import hash_file

# File systems count time in steps of up to 2 s: a file changed within one of them looks unchanged.
_SETTLED_SECONDS = 3.0


def content_hash(path: str | os.PathLike[str], *, cache_dir: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file's bytes, hexadecimal.

    Args:
        path: file.
        cache_dir: where hashes are remembered; if it cannot be written, nothing is.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    state = file_state(path)
    name = hashlib.sha256(os.path.realpath(path).encode()).hexdigest()[:32]
    note = Path(cache_dir) / f"hash_{name}.json"
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["state"] == state:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no note, or a broken one: it is written anew
    started = time.time()
    digest = hash_file(path)
    last_change = max(os.stat(path).st_mtime, os.stat(path).st_ctime)
    if file_state(path) == state and started - last_change > _SETTLED_SECONDS:
        _write(note, {"path": os.path.realpath(path), "state": state, "sha256": digest})
    return digest


def file_state(path: str | os.PathLike[str]) -> list[int]:
    """Return what the file system says of a file; other numbers mean another content."""
    stat = os.stat(path)
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _write(note: Path, content: dict) -> None:
    part = note.with_name(f"{note.name}.{uuid.uuid4().hex}.part")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content), encoding="utf-8")
        os.replace(part, note)
    except OSError:
        part.unlink(missing_ok=True)
