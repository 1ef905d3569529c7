"""Files that are one: one place under several names, or the same bytes in several places."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence

from lt_det.storage.digest import hash_file

# Bytes at the end of a file that tell most files of equal length apart.
_TAIL = 4096


def resolved(paths: Iterable[str]) -> list[str]:
    """Return the places that paths lead to: absolute, without links, dots and doubled slashes.

    A folder is resolved once, however many of the files it holds, so that 100,000 paths take a
    second.

    Args:
        paths: of files, which need not be there.
    """
    folders: dict[str, str] = {}
    found = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        place = os.path.join(folders[folder], name)
        odd = name in ("", ".", "..") or os.path.islink(place)
        found.append(os.path.realpath(place) if odd else place)
    return found


def equal_files(paths: Sequence[str]) -> list[list[str]]:
    """Return groups of two and more files with the same bytes; empty ones are left out.

    Only files of equal length are opened, and only those that end alike are read whole.

    Args:
        paths: different places; those that are not there are left out.
    """
    sizes: dict[int, list[str]] = defaultdict(list)
    for path in paths:
        if os.path.isfile(path):
            sizes[os.path.getsize(path)].append(path)
    groups: dict[tuple[int, bytes | str], list[str]] = defaultdict(list)
    for size, of_size in sizes.items():
        for path in of_size if size and len(of_size) > 1 else ():
            groups[size, _tail(path, size)].append(path)
    equal: dict[str, list[str]] = defaultdict(list)
    for alike in groups.values():
        for path in alike if len(alike) > 1 else ():
            equal[_hash(path)].append(path)
    return [group for group in equal.values() if len(group) > 1]


def _tail(path: str, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(max(size - _TAIL, 0))
            return file.read()
    except OSError:
        return path.encode(errors="replace")  # unreadable: equal to none


def _hash(path: str) -> str:
    try:
        return hash_file(path)
    except OSError:
        return path
