"""Check that a file of torch.save holds the numbers that its tensors say they have.

Before torch 2.10 ``torch.load(weights_only=True)`` believes the length that the pickle names: a
file of a few hundred bytes reads, and by items that it sets on a tensor writes, memory around the
numbers it holds. In files of the format before torch 1.6 a storage without numbers stays as
memory was. Here the pickle is read once with stand-ins that do nothing, and the lengths are
compared before torch sees the file.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, Any

import torch

# Pickles at the start of files of the format before torch 1.6: magic number, protocol, system.
_LEGACY_START = 3
_STORAGE_MODULES = ("torch", "torch.storage", "torch.cuda")
# Bytes of a number; other types are stored as numbers without type.
_ITEM_SIZES = {
    "UntypedStorage": 1,
    **{f"{name}Storage": 1 for name in ("Byte", "Char", "Bool", "QInt8", "QUInt8")},
    **{f"{name}Storage": 1 for name in ("QUInt4x2", "QUInt2x4")},
    **{f"{name}Storage": 2 for name in ("Half", "BFloat16", "Short")},
    **{f"{name}Storage": 4 for name in ("Float", "Int", "QInt32")},
    **{f"{name}Storage": 8 for name in ("Double", "Long", "ComplexFloat")},
    "ComplexDoubleStorage": 16,
}


class _StandIn:
    """What every name in the pickle becomes: called, built or filled, it does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _StandIn:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> _StandIn:
        return _StandIn()

    def __setstate__(self, _: Any) -> None:
        pass


class _Inert(pickle.Unpickler):
    """Read a pickle for the storages that it names."""

    def __init__(self, file: Any, see: Callable[[str, int, int], None]) -> None:
        super().__init__(file, encoding="utf-8")
        self._see = see

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        size = _ITEM_SIZES.get(name) if module in _STORAGE_MODULES else None
        return type("Name", (_StandIn,), {} if size is None else {"item_size": size})

    def persistent_load(self, pid: Any) -> Any:
        word = pid[0] if isinstance(pid, tuple) and len(pid) >= 5 else None
        size = getattr(pid[1], "item_size", None) if word in ("storage", b"storage") else None
        if size is None or type(pid[2]) is not str or type(pid[4]) is not int or pid[4] < 0:
            raise pickle.UnpicklingError("a storage in it is not described as torch.save does")
        self._see(pid[2], pid[4], size)
        return _StandIn()


def check_archive_storages(file: IO[Any]) -> None:
    """Raise unless each storage of an archive of torch.save has the bytes that it is said to have.

    Args:
        file: open for reading bytes; an archive. Its position is moved.

    Raises:
        pickle.UnpicklingError: says what does not fit.
        RuntimeError: if torch cannot read the archive.
    """
    record = _reader_of(file)
    held: dict[str, int] = {}

    def see(key: str, numbers: int, item_size: int) -> None:
        if key not in held:
            held[key] = len(record(f"data/{key}"))
        if held[key] != numbers * item_size:
            raise pickle.UnpicklingError(
                f"a tensor in it is to have {numbers * item_size} bytes, but 'data/{key}' has "
                f"{held[key]}"
            )

    _read(io.BytesIO(record("data.pkl")), see)


def _reader_of(file: IO[Any]) -> Callable[[str], bytes]:
    """Return what gives the content of a file in an archive by its name there."""
    # torch's own: another reader may find other files in a crafted archive.
    reader: Any = getattr(torch._C, "PyTorchFileReader", None)
    if reader is not None:
        return reader(file).get_record
    archive = zipfile.ZipFile(file)
    folder = archive.namelist()[0].split("/", 1)[0]
    return lambda name: archive.read(f"{folder}/{name}")


def check_legacy_storages(file: IO[Any]) -> None:
    """Raise unless a file of the format before torch 1.6 has numbers for each of its storages.

    Args:
        file: open for reading bytes, at its start. Its position is moved.

    Raises:
        pickle.UnpicklingError: says what is missing.
    """
    named: set[str] = set()
    for _ in range(_LEGACY_START):
        _read(file, _none)
    _read(file, lambda key, *_: named.add(key))
    keys = _read(file, _none)
    known = {key for key in keys if isinstance(key, str)} if isinstance(keys, list) else set()
    if named - known:
        raise pickle.UnpicklingError(f"it has no numbers for the storage {min(named - known)!r}")


def _none(*_: Any) -> None:
    raise pickle.UnpicklingError("it has a storage where torch.save writes none")


def _read(file: Any, see: Callable[[str, int, int], None]) -> Any:
    try:
        return _Inert(file, see).load()
    except (pickle.UnpicklingError, RuntimeError):
        raise
    except Exception as error:  # a pickle may do anything wrong; what it asks for is not done
        raise pickle.UnpicklingError(f"it is damaged: {type(error).__name__}: {error}") from error
