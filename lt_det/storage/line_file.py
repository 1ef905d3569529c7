"""Append lines to a file that grows, and take lines out of it, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import IO

from lt_det.storage.atomic_write import atomic_file, naming_full_disk
from lt_det.storage.regular_file import check_own

_BLOCK = 2**16


def append_lines(path: str | os.PathLike[str], lines: Iterable[str]) -> None:
    """Write lines to the end of a file, which is made if it is missing, and put them on the disk.

    A last line without an end goes: the next one would be glued to it.

    Args:
        path: file.
        lines: without their ends.

    Raises:
        OSError: if it cannot be written; for a full disk, with the file and the free space.
        ValueError: if it is a link, a pipe or the like.
    """
    check_own(path)
    with naming_full_disk(path), open(path, "ab+", opener=_open_own) as file:
        _drop_half_line(file)
        file.write("".join(f"{line}\n" for line in lines).encode())
        file.flush()
        os.fsync(file.fileno())


def _open_own(path: str, flags: int) -> int:
    extra = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.open(path, flags | extra, 0o666)


def _drop_half_line(file: IO[bytes]) -> None:
    end = whole = file.seek(0, os.SEEK_END)
    while whole:
        start = max(whole - _BLOCK, 0)
        file.seek(start)
        newline = file.read(whole - start).rfind(b"\n")
        whole = start + newline + 1 if newline >= 0 else start
        if newline >= 0:
            break
    if whole < end:
        file.truncate(whole)
    file.seek(whole)


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Return the lines of a file, with their ends; [] if it is missing.

    A last line without an end, of a writer that was killed, is none.

    Args:
        path: file.

    Raises:
        OSError: if it cannot be read.
    """
    if not os.path.isfile(path):
        return []
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return [line for line in file if line.endswith("\n")]


def filter_lines(path: str | os.PathLike[str], keep: Callable[[str], bool]) -> None:
    """Leave the lines of a file that ``keep`` wants, and what :func:`read_lines` returns of it.

    Args:
        path: file; a missing one is left missing.
        keep: called with each line, with its end.

    Raises:
        OSError: if it cannot be read or written.
    """
    if os.path.isfile(path):
        kept = [line for line in read_lines(path) if keep(line)]
        with atomic_file(path, "wb", sync=True) as file:
            file.write("".join(kept).encode("utf-8", "surrogateescape"))
