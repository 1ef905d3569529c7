"""Write files whole or not at all: next to the target first, then renamed over it.

The partial file has a name of its own and is made by the call that opens it: a link or a file that
somebody put there is never written through. Renaming replaces a link, it does not follow it; it
would replace a device or a pipe, too, so that these are refused before anything is written.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import io
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from lt_det.storage.explained_error import DiskFullError
from lt_det.storage.regular_file import check_replaceable

_PARTIAL = ".partial"
# The disk, the user's share of it, or the shell's limit on a file (ulimit -f).
_FULL = {errno.ENOSPC, errno.EFBIG} | ({errno.EDQUOT} if hasattr(errno, "EDQUOT") else set())
# With less (bytes) a failed write without a reason is put down to the disk.
_NEARLY_FULL = 2**20


@contextlib.contextmanager
def atomic_file(
    path: str | os.PathLike[str], mode: Literal["w", "wb"] = "w", *, sync: bool = False
) -> Iterator[IO[Any]]:
    """Open a file that takes the place of ``path`` when the block ends without an error.

    Readers see the old file or the new one, never a part; after an error the old one is still
    there and the part is gone. Missing folders are made.

    Args:
        path: file.
        mode: "w" for utf-8 text whose line ends are written as they are, or "wb".
        sync: put the content on the disk before its name, so that it outlives a power cut.

    Raises:
        DiskFullError: if there is no space for the file; it has the path and the free space.
        OSError: if the file cannot be written for another reason.
        ValueError: if ``path`` is a device, a pipe, a socket or a folder; before the block begins.
    """
    with _new_file(path) as (handle, partial, failures):
        file: IO[Any] = io.BufferedWriter(_Noting(handle, failures))
        if "b" not in mode:
            file = io.TextIOWrapper(file, encoding="utf-8", newline="")
        with file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], *, sync: bool = False) -> Iterator[str]:
    """Give the path of an empty file, for code that opens files itself; as :func:`atomic_file`.

    Args:
        path: file that it becomes.
        sync: see :func:`atomic_file`.

    Raises:
        OSError: see :func:`atomic_file`.
        ValueError: see there.
    """
    with _new_file(path) as (handle, partial, _):
        os.close(handle)
        yield partial
        if sync:
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)


def is_full_disk(error: BaseException | None) -> bool:
    """Return whether an error of the system is one of a full disk."""
    return isinstance(error, OSError) and error.errno in _FULL


@contextlib.contextmanager
def naming_full_disk(path: str | os.PathLike[str], *, among_others: bool = False) -> Iterator[None]:
    """Name file and free space if the block, which writes a file by itself, finds a full disk.

    Args:
        path: file or folder that it writes.
        among_others: it writes elsewhere too: only a disk of ``path`` that is full is named.

    Raises:
        DiskFullError: with the path and the free space; other errors are as they are.
    """
    try:
        yield
    except DiskFullError:
        raise
    except OSError as error:
        path = os.path.abspath(path)
        full = _full_disk(path, error, unchanged="")
        free = _free_bytes(path)
        if full is None or (among_others and (free is None or free >= _NEARLY_FULL)):
            raise
        raise full from error


def free_space(folder: str | os.PathLike[str]) -> str:
    """Return how much is free on the disk of a folder, in words.

    Args:
        folder: need not be there.
    """
    free = _free_bytes(os.fspath(folder))
    space = "unknown" if free is None else f"{free / 2**20:.1f} MiB"
    with contextlib.suppress(OSError, AttributeError):
        state = os.statvfs(folder)
        if state.f_files and not state.f_favail:
            space += ", but no entry for a new file (inodes)"
    return space


def remove_partial_files(path: str | os.PathLike[str]) -> None:
    """Remove what killed writers of ``path`` have left; no other may be at work.

    Args:
        path: file; may hold ``*`` for any part of its name.
    """
    folder, name = os.path.split(os.fspath(path))
    name = "*".join(glob.escape(part) for part in name.split("*"))
    for pattern in (f"{name}.*{_PARTIAL}", f"{name}{_PARTIAL}"):
        for partial in glob.glob(os.path.join(glob.escape(folder), pattern)):
            with contextlib.suppress(FileNotFoundError):
                os.remove(partial)


class _Noting(io.FileIO):
    """File that remembers why it could not be written, as torch.save loses the reason."""

    def __init__(self, handle: int, failures: list[OSError]) -> None:
        super().__init__(handle, "wb")
        self._failures = failures

    def write(self, content: Any) -> int | None:  # type: ignore[override]
        try:
            return super().write(content)
        except OSError as error:
            self._failures.append(error)
            raise


@contextlib.contextmanager
def _new_file(path: str | os.PathLike[str]) -> Iterator[tuple[int, str, list[OSError]]]:
    """Give handle and path of a new file beside ``path``; remove it if it is left over.

    Into the list goes what a writer may keep to itself.
    """
    path = os.path.abspath(path)
    check_replaceable(path)
    # In the same folder: renaming over a file is atomic only within one file system. Process ids
    # repeat on machines that share one.
    partial = f"{path}.{uuid.uuid4().hex}{_PARTIAL}"
    failures: list[OSError] = []
    # O_EXCL refuses whatever is there, links too.
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        yield os.open(partial, flags | getattr(os, "O_BINARY", 0), 0o666), partial, failures
    except Exception as error:
        full = _full_disk(path, failures[0] if failures else error)
        if full is None:
            raise
        raise full from error
    finally:
        with contextlib.suppress(OSError):
            os.remove(partial)


def _full_disk(
    path: str, error: BaseException, *, unchanged: str = "What was there before is unchanged; "
) -> DiskFullError | None:
    """Return an error that names file and free space if ``error`` is one of a full disk."""
    is_full = is_full_disk(error)
    free = _free_bytes(os.path.dirname(path))
    # Writers in C++ (torch, safetensors) report a RuntimeError, or an error without a number.
    unknown = type(error).__name__ == "SafetensorError" or isinstance(error, RuntimeError)
    if not is_full and not (unknown and free is not None and free < _NEARLY_FULL):
        return None
    number = error.errno if isinstance(error, OSError) and is_full else errno.ENOSPC
    advice = f"{unchanged}make room, or write to another disk"
    return DiskFullError(
        number,
        f"{path} could not be written ({os.strerror(number or errno.ENOSPC)}): free on its disk "
        f"are {free_space(os.path.dirname(path))}. {advice[:1].upper()}{advice[1:]}",
    )


def _free_bytes(folder: str) -> int | None:
    for place in (Path(folder), *Path(folder).parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(place).free
    return None
