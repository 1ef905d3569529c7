"""Check an archive of torch.save: every reader finds the same files in it, as they were written.

Python's reader of archives and torch's can disagree on a crafted one: on where its table of
contents is, on names, on sizes. What is checked with one must hold for the other.
"""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
import zlib
from typing import IO, Any

# The ends of archives: of the long form (zip64) with a pointer to it, and of the plain one.
_LONG_END, _POINTER, _END = "<4s36xQQ", "<4s4xQ4x", "<4s8xIIH"
_IS_UTF8 = 0x800


def files_in_archive(file: IO[Any]) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by their names there, without the folder around them.

    Args:
        file: open for reading bytes; an archive. Its position is moved.

    Raises:
        pickle.UnpicklingError: if it holds a program, or is not what ``torch.save`` writes: not
            compressed, each file once, each with its checksum (CRC-32). torch does not look.
        EOFError: if it is cut off; RuntimeError: if it is encrypted.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            files = archive.infolist()
            _check_contents(file, files)
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, struct.error) as error:
        raise pickle.UnpicklingError(f"it is damaged: {error}") from error
    if damaged is not None:
        raise pickle.UnpicklingError(
            f"it is damaged: {damaged!r} in it does not have the checksum with which it was "
            "written; take another copy"
        )
    folder = files[0].orig_filename.split("/", 1)[0]
    return {one.orig_filename.removeprefix(f"{folder}/"): one for one in files}


def _check_contents(file: IO[Any], files: list[zipfile.ZipInfo]) -> None:
    # Not "filename": Python shortens that, and takes another from additional data.
    names = [one.orig_filename for one in files]
    parts = [name.split("/", 1)[-1].lower() for name in names]
    if any(part == "constants.pkl" or part.startswith("code/") for part in parts):
        raise pickle.UnpicklingError(
            "it is a TorchScript archive, a program; save the state_dict of the model instead"
        )
    # One of a few kilobytes may hold gigabytes.
    if any(one.compress_type or one.compress_size != one.file_size for one in files):
        raise pickle.UnpicklingError("its content is compressed, as torch.save has none")
    # torch's reader takes capitals for small letters, and names as bytes.
    if not files or len({name.lower() for name in names}) < len(names):
        raise pickle.UnpicklingError("it is damaged: it holds no file, or one of them twice")
    if len({one.flag_bits & _IS_UTF8 for one in files}) > 1:
        raise pickle.UnpicklingError("it is damaged: the names in it are of two kinds")
    size = file.seek(0, os.SEEK_END)
    if sum(one.file_size for one in files) > size:
        raise pickle.UnpicklingError("it is damaged: its files lie one over the other")
    file.seek(max(0, size - sum(map(struct.calcsize, (_LONG_END, _POINTER, _END)))))
    _check_end(file.read(), size)


def _check_end(tail: bytes, size: int) -> None:
    """Raise unless the table of contents ends where the end says, and nothing follows.

    Else readers look for it in different places.
    """
    end = size - struct.calcsize(_END)
    sign, length, start, comment = struct.unpack_from(_END, tail, len(tail) - (size - end))
    if sign == b"PK\x05\x06" and not comment:
        behind = end - struct.calcsize(_POINTER)
        at = len(tail) - (size - behind)
        if at >= 0 and tail[at:].startswith(b"PK\x06\x07"):
            end = behind - struct.calcsize(_LONG_END)
            _, place = struct.unpack_from(_POINTER, tail, at)
            sign, length, start = struct.unpack_from(_LONG_END, tail)
            if place != end or sign != b"PK\x06\x06":
                length = -1
        if start + length == end:
            return
    raise pickle.UnpicklingError("it is damaged: its table of contents is not at its end")
