"""Check that a file of torch.save holds the numbers that its tensors say they have.

Before torch 2.10 ``torch.load(weights_only=True)`` believes the length that the pickle names: a
file of a few hundred bytes reads, and by items that it sets on a tensor writes, memory around the
numbers it holds. In files of the format before torch 1.6 a storage without numbers stays as
memory was. Here the pickle is read once with stand-ins that do nothing, and the lengths are
compared before torch sees the file. Only what ``torch.save`` writes for weights passes.
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from typing import IO, Any, ClassVar

from lt_det.storage.bounded_unpickler import BoundedUnpickler, Opcodes, opcodes, require
from lt_det.storage.pickled_names import NAMES, Kind, Numbers
from lt_det.storage.stored_archive import files_in_archive

# Pickles at the start of files of the format before torch 1.6: magic number, protocol, system.
_LEGACY_START = 3
# Of the key of a storage; the old format has addresses of 64 bits.
_MOST_DIGITS = 20


class _Inert(BoundedUnpickler):
    """Read a pickle for the storages that it names.

    Attributes:
        storages: those by their keys.
    """

    names = NAMES

    def __init__(self, file: IO[bytes], most: int) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, Numbers] = {}
        self._bytes_left = most

    def persistent_load(self, pid: Any) -> Numbers:
        require(
            isinstance(pid, tuple)
            and len(pid) >= 5
            and pid[0] in ("storage", b"storage")
            and isinstance(pid[1], Kind)
            # torch's reader of archives takes other texts for each other.
            and type(pid[2]) is str
            and pid[2].isascii()
            and pid[2].isdigit()
            and len(pid[2]) <= _MOST_DIGITS
            and type(pid[4]) is int
            and pid[4] >= 0
            and all(view is None for view in pid[5:]),
            "a storage",
        )
        key, item_size = pid[2], pid[1].item_size
        found = Numbers(pid[4] * item_size, item_size)
        before = self.storages.setdefault(key, found)
        if before is found:
            self._bytes_left -= found.held
            if self._bytes_left < 0:
                raise pickle.UnpicklingError("its storages are to have more bytes than it has")
        elif before.held != found.held or (found.held and before.item_size != item_size):
            raise pickle.UnpicklingError(f"it gives the storage {key!r} two lengths or types")
        return found

    def build(self, item: Any, state: Any) -> None:
        """Take attributes, as torch's versions of modules; nothing here needs them."""
        require(type(item) is OrderedDict and type(state) is dict, "a state")

    # Those that torch knows: others could mean to it something else than here.
    dispatch: ClassVar[dict[int, Any]] = Opcodes(
        {**BoundedUnpickler.dispatch, **opcodes(pickle.BINPERSID)}
    )


def check_archive_storages(file: IO[Any]) -> None:
    """Raise unless each storage of an archive of torch.save has the bytes that it is said to have.

    Args:
        file: open for reading bytes; an archive. Its position is moved.

    Raises:
        pickle.UnpicklingError: says what does not fit.
        EOFError, RuntimeError: as :func:`lt_det.storage.stored_archive.files_in_archive`.
    """
    files = files_in_archive(file)
    if "data.pkl" not in files:
        raise pickle.UnpicklingError("it is damaged: it has no data.pkl")
    with zipfile.ZipFile(file) as archive:
        pickled = archive.read(files["data.pkl"])
    inert = _Inert(io.BytesIO(pickled), file.seek(0, os.SEEK_END))
    _read(inert)
    for key, numbers in inert.storages.items():
        name = f"data/{key}"
        if name not in files or files[name].file_size != numbers.held:
            has = f"has {files[name].file_size}" if name in files else "is not there"
            raise pickle.UnpicklingError(
                f"a tensor in it is to have {numbers.held} bytes, but {name!r} {has}"
            )


def check_legacy_storages(file: IO[Any]) -> None:
    """Raise unless a file of the format before torch 1.6 has numbers for each of its storages.

    Args:
        file: open for reading bytes, at its start. Its position is moved.

    Raises:
        pickle.UnpicklingError: says what is missing.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    for _ in range(_LEGACY_START):
        _read(_Inert(file, 0))
    inert = _Inert(file, size)
    _read(inert)
    keys = _read(_Inert(file, 0))
    known = {key for key in keys if isinstance(key, str)} if isinstance(keys, list) else set()
    absent = sorted(set(inert.storages) - known)
    if absent:
        raise pickle.UnpicklingError(f"it has no numbers for the storage {absent[0]!r}")


def _read(inert: _Inert) -> Any:
    try:
        return inert.load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a pickle may do anything wrong; what it asks for is not done
        raise pickle.UnpicklingError(f"it is damaged: {type(error).__name__}: {error}") from error
