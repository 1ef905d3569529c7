"""Check that a file of torch.save holds the numbers that its tensors say they have.

Before torch 2.10 ``torch.load(weights_only=True)`` believes the length that the pickle names: a
file of a few hundred bytes reads, and by items that it sets on a tensor writes, memory around the
numbers it holds. In files of the format before torch 1.6 a storage without numbers stays as
memory was. Here the pickle is read once with stand-ins that do nothing, and the lengths are
compared before torch sees the file. Only what ``torch.save`` writes for weights passes.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import IO, Any

import torch

from lt_det.storage.stored_archive import files_in_archive

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
_MAX_NDIM = 64
# A tensor that repeats its numbers (``expand``) may seem to have as many bytes.
_MOST_REPEATED = 2**30


class _Kind:
    """A type of storage."""

    def __init__(self, item_size: int) -> None:
        self.item_size = item_size


class _Numbers:
    """A storage."""

    def __init__(self, held: int, item_size: int) -> None:
        self.held, self.item_size = held, item_size


class _Tensor:
    """A tensor."""

    def __init__(self, *, repeats: bool) -> None:
        self.repeats = repeats


class _Function:
    """What may be called."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


class _Tuple(tuple[Any, ...]):
    """A tuple. Python's own, as the key of a dictionary, ends the process if nested deeply."""

    __slots__ = ()

    def __hash__(self) -> int:
        return super().__hash__()


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise pickle.UnpicklingError(f"{what} in it is not described as torch.save does")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    _require(isinstance(storage, _Numbers), "a tensor")
    return _within(storage.held, storage.item_size, offset, size, stride)


def _typed_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> _Tensor:
    _require(isinstance(storage, _Numbers) and isinstance(dtype, torch.dtype), "a tensor")
    item_size = torch.empty(0, dtype=dtype).element_size()
    return _within(storage.held, item_size, offset, size, stride)


def _within(held: int, item_size: int, offset: Any, size: Any, stride: Any) -> _Tensor:
    """Return a tensor of a storage that it does not leave: torch would add memory as it was."""
    whole = (offset, *size, *stride)
    _require(
        len(size) == len(stride) <= _MAX_NDIM
        and all(type(n) is int and 0 <= n < 2**63 for n in whole),
        "a tensor",
    )
    numbers, reach = math.prod(size), 1 + sum((n - 1) * step for n, step in zip(size, stride))
    if numbers and (offset + reach) * item_size > held:
        raise pickle.UnpicklingError(
            f"a tensor in it reaches to byte {(offset + reach) * item_size} of {held}"
        )
    if numbers * item_size > max(held, _MOST_REPEATED):
        raise pickle.UnpicklingError(
            f"a tensor in it repeats {held} bytes until they are {numbers * item_size}"
        )
    return _Tensor(repeats=numbers > reach)


def _parameter(data: Any, *rest: Any) -> _Tensor:
    _require(isinstance(data, _Tensor), "a parameter")
    _check_attributes(rest[2] if len(rest) > 2 else None)
    return data


def _with_type(function: Any, _kind: Any, arguments: Any, state: Any) -> Any:
    _require(isinstance(function, _Function), "a tensor")
    made = function.call(*arguments)
    _require(isinstance(made, _Tensor), "a tensor")
    _check_attributes(state)
    return made


def _check_attributes(state: Any) -> None:
    """Raise if attributes of a tensor are among those that every tensor has."""
    for part in state if isinstance(state, tuple) else (state,):
        _require(not any(hasattr(torch.Tensor, name) for name in part or ()), "a tensor")


def _sparse(_layout: Any, parts: Any) -> _Tensor:
    # torch looks at each of its numbers.
    tensors = [part for part in parts if isinstance(part, _Tensor)]
    _require(not any(tensor.repeats for tensor in tensors), "a sparse tensor")
    return _Tensor(repeats=True)


def _encode(text: str, encoding: str) -> bytes:
    # Others make it longer each time.
    _require(encoding == "latin1", "a text")
    return text.encode("latin1")


# What a name in the pickle becomes.
_NAMES: dict[str, Any] = {
    **{
        f"{module}.{name}": _Kind(item_size)
        for module in _STORAGE_MODULES
        for name, item_size in _ITEM_SIZES.items()
    },
    **{f"torch.{name}": x for name, x in vars(torch).items() if isinstance(x, torch.dtype)},
    "torch._utils._rebuild_tensor": _Function(_tensor),
    "torch._utils._rebuild_tensor_v2": _Function(_tensor),
    "torch._utils._rebuild_tensor_v3": _Function(_typed_tensor),
    "torch._utils._rebuild_parameter": _Function(_parameter),
    "torch._utils._rebuild_parameter_with_state": _Function(_parameter),
    "torch.nn.parameter.Parameter": _Function(_parameter),
    "torch._tensor._rebuild_from_type_v2": _Function(_with_type),
    "torch._utils._rebuild_sparse_tensor": _Function(_sparse),
    "torch._utils._rebuild_meta_tensor_no_storage": _Function(lambda *_: _Tensor(repeats=True)),
    "torch.Tensor": None,
    "torch.serialization._get_layout": _Function(lambda *_: None),
    "torch.Size": _Function(torch.Size),
    "torch.device": _Function(torch.device),
    "collections.OrderedDict": _Function(OrderedDict),
    "collections.Counter": _Function(Counter),
    "_codecs.encode": _Function(_encode),
    **{f"{module}.set": _Function(set) for module in ("builtins", "__builtin__")},
    **{f"{module}.complex": _Function(complex) for module in ("builtins", "__builtin__")},
}


# In Python, whose memo is a dictionary: a few bytes make that of C take gigabytes.
class _Inert(pickle._Unpickler):
    """Read a pickle for the storages that it names.

    Attributes:
        storages: those by their keys.
    """

    def __init__(self, file: Any, most: int) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Numbers] = {}
        self._left = most

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _NAMES[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which no weights need"
            ) from None

    def persistent_load(self, pid: Any) -> _Numbers:
        _require(
            isinstance(pid, tuple)
            and len(pid) >= 5
            and pid[0] in ("storage", b"storage")
            and isinstance(pid[1], _Kind)
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
        found = _Numbers(pid[4] * item_size, item_size)
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
        _require(isinstance(self.stack[-1], _Function), "a call")
        self.stack[-1] = self.stack[-1].call(*arguments)

    def _build(self) -> None:
        # Attributes, as torch's versions of modules; nothing here needs them.
        state = self.stack.pop()
        _require(type(self.stack[-1]) is OrderedDict and type(state) is dict, "a state")

    # Those that torch knows: others could mean to it something else than here.
    dispatch = {
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
