"""Read foreign files of torch.save: tensors, and no code.

``torch.load(weights_only=True)`` alone is not enough before torch 2.6: it hands TorchScript
archives to ``torch.jit.load``, whose programs may write files, and unpacks tars.
From 2.6 on torch refuses both by itself; here they are refused with every version. And before
2.10 it believes lengths of tensors: see :mod:`lt_det.storage.declared_storages`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import tarfile
from typing import IO, Any

import torch

from lt_det.storage.declared_storages import check_archive_storages, check_legacy_storages
from lt_det.storage.regular_file import open_regular

_ZIP = b"PK\x03\x04"
# Files of torch before 1.6 are pickles one after the other.
_PICKLE = b"\x80"


def load_tensors(path: str | os.PathLike[str]) -> Any:
    """Return what ``torch.save`` wrote, on the CPU.

    Args:
        path: file.

    Raises:
        FileNotFoundError: if there is none.
        pickle.UnpicklingError: if it holds a program or anything but tensors and plain types, or
            is not what was written.
        ValueError: if it is no regular file.
        RuntimeError: if it is broken; other errors of broken files are in
            :data:`lt_det.data.array_unpickler.BROKEN_FILE`.
    """
    with open_regular(path) as file:
        return load_open_tensors(file)


def load_open_tensors(file: IO[Any]) -> Any:
    """Return :func:`load_tensors` of an open file.

    Args:
        file: open for reading bytes, at its start.

    Raises:
        pickle.UnpicklingError: see there, and so the others.
    """
    try:
        _check(file)
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # A damaged table of contents points to places before the file's start.
        raise pickle.UnpicklingError(f"it is damaged: {error}") from error


def why_not_loaded(error: BaseException) -> str:
    """Return the reason in an error of :func:`load_tensors`, on one line.

    torch's own text goes on to advise loading the file with all its code.
    """
    return str(error).split("WeightsUnpickler error: ")[-1].strip().split("\n")[0]


def _check(file: IO[Any]) -> None:
    """Raise if torch would take the file for a program or a tar, or believe what is not so."""
    start = file.read(tarfile.BLOCKSIZE)
    file.seek(0)
    if start.startswith(_ZIP):
        check_archive_storages(file)
        return
    with contextlib.suppress(tarfile.HeaderError):
        # Not the whole of it: a few bytes may ask for gigabytes.
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
        raise pickle.UnpicklingError("it is a tar archive, a format that torch no longer writes")
    if not start.startswith(_PICKLE):
        raise pickle.UnpicklingError(
            f"it is no file of torch.save, it begins with {start[: len(_ZIP)]!r}"
        )
    check_legacy_storages(file)
