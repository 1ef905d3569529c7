"""Read foreign files of torch.save: tensors, and no code.

``torch.load(weights_only=True)`` alone is not enough before torch 2.6: it hands TorchScript
archives to ``torch.jit.load``, whose programs may write files, and unpacks tars.
From 2.6 on torch refuses both by itself; here they are refused with every version. And before
2.10 it believes lengths of tensors: see :mod:`lt_det.storage.declared_storages`.
"""

from __future__ import annotations

import errno
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
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
        _refuse_programs(file)
        _check_sums(file)
        _check_storages(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # A damaged table of contents points to places before the file's start.
        raise pickle.UnpicklingError(f"it is damaged: {error}") from error


def _check_sums(file: IO[Any]) -> None:
    """Raise if the content of an archive is not what was written; torch itself does not look.

    ``torch.save`` writes a checksum (CRC-32) of each tensor, as zip files have it. Files of the
    format before torch 1.6 have none.
    """
    if file.read(len(_ZIP)) == _ZIP:
        file.seek(0)
        try:
            with zipfile.ZipFile(file) as archive:
                if any(one.compress_type for one in archive.infolist()):
                    # One of a few kilobytes may hold gigabytes.
                    raise pickle.UnpicklingError(
                        "its content is compressed, as torch.save has none"
                    )
                damaged = archive.testzip()
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, struct.error) as error:
            raise pickle.UnpicklingError(f"it is damaged: {error}") from error
        if damaged is not None:
            raise pickle.UnpicklingError(
                f"it is damaged: {damaged!r} in it does not have the checksum with which it was "
                "written; take another copy"
            )
    file.seek(0)


def _check_storages(file: IO[Any]) -> None:
    is_archive = file.read(len(_ZIP)) == _ZIP
    file.seek(0)
    if is_archive:
        check_archive_storages(file)
    else:
        check_legacy_storages(file)
    file.seek(0)


def why_not_loaded(error: BaseException) -> str:
    """Return the reason in an error of :func:`load_tensors`, on one line.

    torch's own text goes on to advise loading the file with all its code.
    """
    return str(error).split("WeightsUnpickler error: ")[-1].strip().split("\n")[0]


def _names_in(archive: IO[Any]) -> list[str]:
    """Return the names of the files in an archive, without that of the folder around them."""
    # torch's own: another reader may find other files in a crafted archive.
    reader: Any = getattr(torch._C, "PyTorchFileReader", None)
    if reader is not None:
        return list(reader(archive).get_all_records())
    with zipfile.ZipFile(archive) as found:
        return [name.split("/", 1)[-1] for name in found.namelist()]


def _refuse_programs(file: IO[Any]) -> None:
    """Raise if torch would take the file for a TorchScript archive or a tar."""
    start = file.read(len(_ZIP))
    file.seek(0)
    if start == _ZIP:
        names = _names_in(file)
        file.seek(0)
        if any(name == "constants.pkl" or name.startswith("code/") for name in names):
            raise pickle.UnpicklingError(
                "it is a TorchScript archive, a program; save the state_dict of the model instead"
            )
        return
    try:
        tarfile.open(fileobj=file, mode="r:").close()
    except tarfile.TarError:
        file.seek(0)
        if start[: len(_PICKLE)] != _PICKLE:
            raise pickle.UnpicklingError(
                f"it is no file of torch.save, it begins with {start!r}"
            ) from None
        return
    raise pickle.UnpicklingError("it is a tar archive, a format that torch no longer writes")
