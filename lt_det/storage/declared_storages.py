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
# What is called in a pickle of weights, beside the functions that rebuild tensors.
_CALLED = {
    *("_codecs.encode", "collections.Counter", "torch.Size", "torch.device"),
    *("torch.nn.parameter.Parameter", "torch._tensor._rebuild_from_type_v2"),
    "torch.serialization._get_layout",
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "complex")),
}


class _StandIn:
    """What a name in the pickle becomes: it does nothing, and only what weights need is called."""

    name = ""
    may_be_called = False

    def __new__(cls, *_: Any, **__: Any) -> _StandIn:
        if not cls.may_be_called:
            raise pickle.UnpicklingError(f"it makes a {cls.name}, which no weights are")
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError(
            f"it sets the state of a {self.name}, which torch.save does not"
        )


class _Storage(_StandIn):
    """A type of storage."""

    item_size = 0


class _Numbers:
    """A storage."""

    def __init__(self, count: int, item_size: int) -> None:
        self.count, self.item_size = count, item_size


class _Rebuilt(_StandIn):
    """A tensor: it must lie within its storage, which torch would enlarge with memory as it was."""

    may_be_called = True

    def __init__(self, *arguments: Any) -> None:
        storage = arguments[0] if arguments else None
        if not isinstance(storage, _Numbers):
            return
        held, (offset, size, stride) = storage.count * storage.item_size, arguments[1:4]
        last = offset + sum((n - 1) * step for n, step in zip(size, stride))
        item_size = next(filter(None, map(_size_of_type, arguments[4:])), storage.item_size)
        if 0 not in size and (min((offset, *stride)) < 0 or (last + 1) * item_size > held):
            raise pickle.UnpicklingError(
                f"a tensor in it reaches to byte {(last + 1) * item_size} of {held}"
            )


# In Python, whose memo is a dictionary: a few bytes make that of C take gigabytes.
class _Inert(pickle._Unpickler):
    """Read a pickle for the storages that it names."""

    def __init__(self, file: Any, see: Callable[[str, int, int], None]) -> None:
        super().__init__(file, encoding="utf-8")
        self._see = see

    def find_class(self, module: str, name: str) -> Any:
        whole = f"{module}.{name}"
        if whole == "collections.OrderedDict":
            return OrderedDict
        if module in _STORAGE_MODULES and name in _ITEM_SIZES:
            return type(name, (_Storage,), {"item_size": _ITEM_SIZES[name], "name": whole})
        if module == "torch._utils" and name.startswith("_rebuild_"):
            return type(name, (_Rebuilt,), {"name": whole})
        return type(name, (_StandIn,), {"may_be_called": whole in _CALLED, "name": whole})

    def persistent_load(self, pid: Any) -> Any:
        is_storage = type(pid) is tuple and len(pid) >= 5 and pid[0] in ("storage", b"storage")
        kind = pid[1] if is_storage else None
        if (
            not (isinstance(kind, type) and issubclass(kind, _Storage))
            or type(pid[2]) is not str
            or type(pid[4]) is not int
            or pid[4] < 0
            or any(view is not None for view in pid[5:])
        ):
            raise pickle.UnpicklingError("a storage in it is not described as torch.save does")
        self._see(pid[2], pid[4], kind.item_size)
        return _Numbers(pid[4], kind.item_size)


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
    named: dict[str, int] = {}

    def see(key: str, numbers: int, item_size: int) -> None:
        if named.setdefault(key, numbers * item_size) != numbers * item_size:
            raise pickle.UnpicklingError(f"it gives the storage {key!r} two lengths")

    for _ in range(_LEGACY_START):
        _read(file, _none)
    _read(file, see)
    keys = _read(file, _none)
    known = {key for key in keys if isinstance(key, str)} if isinstance(keys, list) else set()
    absent = sorted(set(named) - known)
    if absent:
        raise pickle.UnpicklingError(f"it has no numbers for the storage {absent[0]!r}")


def _none(*_: Any) -> None:
    raise pickle.UnpicklingError("it has a storage where torch.save writes none")


def _read(file: Any, see: Callable[[str, int, int], None]) -> Any:
    try:
        return _Inert(file, see).load()
    except (pickle.UnpicklingError, RuntimeError):
        raise
    except Exception as error:  # a pickle may do anything wrong; what it asks for is not done
        raise pickle.UnpicklingError(f"it is damaged: {type(error).__name__}: {error}") from error


def _size_of_type(value: Any) -> int | None:
    """Return the bytes of a number of a dtype in the pickle, None of anything else."""
    is_name = isinstance(value, type) and issubclass(value, _StandIn)
    found = getattr(torch, value.__name__, None) if is_name else None
    return torch.empty(0, dtype=found).element_size() if isinstance(found, torch.dtype) else None
