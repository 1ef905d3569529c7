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

from lt_det.storage.pickled_names import NAMES, Function, Kind, Numbers, require
from lt_det.storage.stored_archive import files_in_archive

# Pickles at the start of files of the format before torch 1.6: magic number, protocol, system.
_LEGACY_START = 3


class _Tuple(tuple[Any, ...]):
    """A tuple. Python's own, as the key of a dictionary, ends the process if nested deeply."""

    __slots__ = ()

    def __hash__(self) -> int:
        return super().__hash__()


# In Python, whose memo is a dictionary: a few bytes make that of C take gigabytes.
class _Inert(pickle._Unpickler):
    """Read a pickle for the storages that it names.

    Attributes:
        storages: those by their keys.
    """

    stack: list[Any]

    def __init__(self, file: Any, most: int) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, Numbers] = {}
        self._left = most

    def find_class(self, module: str, name: str) -> Any:
        try:
            return NAMES[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which no weights need"
            ) from None

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
            and type(pid[4]) is int
            and pid[4] >= 0
            and all(view is None for view in pid[5:]),
            "a storage",
        )
        key, item_size = pid[2], pid[1].item_size
        found = Numbers(pid[4] * item_size, item_size)
        before = self.storages.setdefault(key, found)
        if before is found:
            self._left -= found.held
            if self._left < 0:
                raise pickle.UnpicklingError("its storages are to have more bytes than it has")
        elif before.held != found.held or (found.held and before.item_size != item_size):
            raise pickle.UnpicklingError(f"it gives the storage {key!r} two lengths or types")
        return found

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        require(isinstance(self.stack[-1], Function), "a call")
        self.stack[-1] = self.stack[-1].call(*arguments)

    def _build(self) -> None:
        # Attributes, as torch's versions of modules; nothing here needs them.
        state = self.stack.pop()
        require(type(self.stack[-1]) is OrderedDict and type(state) is dict, "a state")

    # Those that torch knows: others could mean to it something else than here.
    dispatch: ClassVar[dict[int, Any]] = {
        code[0]: pickle._Unpickler.dispatch[code[0]]
        for code in (
            *(pickle.PROTO, pickle.STOP, pickle.GLOBAL, pickle.BINPERSID, pickle.MARK),
            *(pickle.APPEND, pickle.APPENDS, pickle.SETITEM, pickle.SETITEMS),
            *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET),
            *(pickle.NONE, pickle.NEWFALSE, pickle.NEWTRUE, pickle.BINFLOAT, pickle.LONG1),
            *(pickle.BININT, pickle.BININT1, pickle.BININT2),
            *(pickle.BINUNICODE, pickle.SHORT_BINSTRING),
            *(pickle.EMPTY_TUPLE, pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.EMPTY_SET),
        )
    }
    dispatch[pickle.REDUCE[0]] = _reduce
    dispatch[pickle.BUILD[0]] = _build
    for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):

        def _tuple(self, _load: Any = pickle._Unpickler.dispatch[_code[0]]) -> None:
            _load(self)
            self.stack[-1] = _Tuple(self.stack[-1])

        dispatch[_code[0]] = _tuple


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
