"""Unpickle numpy arrays and containers, and nothing that could run code or harm memory.

A pickle may not only name functions. It may also set the state of what it has made: that of a numpy
dtype says what the bytes of an array are, so that numbers out of a file could pass for the
addresses of objects. Here nothing of numpy's own is called with what a file says before it was
checked: only numbers of a fixed size pass, and only as many bytes as they take. How much a file
may ask for is bounded by :mod:`lt_det.storage.bounded_unpickler`.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from typing import Any, ClassVar

import numpy as np

from lt_det.storage.bounded_unpickler import BoundedUnpickler, Function, Opcodes, opcodes, require

# What unpickling half a file, or no pickle at all, may raise (see Python's pickle module).
BROKEN_FILE = (
    *(pickle.UnpicklingError, EOFError, RuntimeError, ValueError, LookupError),
    *(AttributeError, ImportError, TypeError, ArithmeticError, MemoryError, BufferError),
    AssertionError,  # torch, of files in its format before 1.6
)

# bool, signed and unsigned integers, floats, complex numbers.
_KINDS = "biufc"
_MAX_NDIM = 32


class _Dtype:
    """A dtype of numbers; of its state only the byte order is taken."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype

    def set_state(self, state: Any) -> None:
        # Version, byte order, subarray, names, fields, item size, alignment, flags.
        if not isinstance(state, tuple) or len(state) < 5 or state[2:5] != (None, None, None):
            raise pickle.UnpicklingError("the file holds an array of more than numbers")
        order = state[1]
        if order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"the file gives a dtype the byte order {order!r:.20}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray):
    """An array that is filled by its state, once that was checked."""

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or self.shape != (0,):
            raise pickle.UnpicklingError("the file gives an array a state of another form")
        _, shape, dtype, is_fortran, content = state
        content = _checked_bytes(content, shape, dtype)
        self.__setstate__((1, shape, dtype.dtype, bool(is_fortran), content))


class _Dict(OrderedDict):
    """An ordered dict; of its attributes only torch's versions of modules are taken."""

    def set_state(self, state: Any) -> None:
        if isinstance(state, dict) and isinstance(state.get("_metadata"), dict):
            self._metadata = state["_metadata"]


def _checked_bytes(content: Any, shape: Any, dtype: Any) -> bytes:
    """Return the content of an array if its bytes are those of its shape and dtype."""
    if isinstance(content, str):  # Python 2's bytes
        content = content.encode("latin1")
    if (
        not isinstance(dtype, _Dtype)
        or not isinstance(content, (bytes, bytearray))
        or not isinstance(shape, tuple)
        or len(shape) > _MAX_NDIM
        or not all(type(size) is int and size >= 0 for size in shape)
        or math.prod(shape) * dtype.dtype.itemsize != len(content)
    ):
        raise pickle.UnpicklingError("the file holds an array whose parts do not fit together")
    return bytes(content)


def _make_dtype(code: Any, *_flags: Any) -> _Dtype:
    """Stand for ``numpy.dtype(code, align, copy)``."""
    # Never handed to numpy: it evaluates texts of many kinds.
    if not isinstance(code, str) or code not in _CODES:
        raise pickle.UnpicklingError(f"the file holds an array of {code!r:.40}, not of numbers")
    return _Dtype(np.dtype(code))


_CODES = {
    f"{dtype.kind}{dtype.itemsize}"
    for dtype in map(np.dtype, "?bhilqBHILQefdFD")
    if dtype.kind in _KINDS
}


def _reconstruct(cls: Any, shape: Any, code: Any) -> _Array:
    """Stand for numpy's function of this name; the state comes later."""
    if cls is not _NDARRAY or shape != (0,) or code not in (b"b", "b"):
        raise pickle.UnpicklingError("the file holds an array of a kind of its own")
    return np.ndarray.__new__(_Array, (0,), np.int8)


def _scalar(dtype: Any, content: Any) -> Any:
    """Stand for numpy's function of this name."""
    content = _checked_bytes(content, (), dtype)
    return np.frombuffer(content, dtype.dtype)[0]


def _frombuffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Stand for numpy's function of this name (pickle protocol 5)."""
    content = _checked_bytes(content, shape, dtype)
    if order not in ("C", "F"):
        raise pickle.UnpicklingError("the file holds an array whose parts do not fit together")
    # A bytearray, as an array that is loaded can be written.
    flat = np.frombuffer(bytearray(content), dtype.dtype)
    return flat.reshape(shape, order=order).view(_Array)


def _encode(text: Any, encoding: Any) -> bytes:
    """Stand for ``codecs.encode``, by which pickle protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("the file encodes what is no text of bytes")
    return text.encode("latin1")


def _no_bytes(*arguments: Any) -> bytes:
    """Stand for ``bytes()``, which pickle protocol 2 writes for none."""
    if arguments:
        raise pickle.UnpicklingError("the file makes bytes by a way of its own")
    return b""


def _refuse(*_arguments: Any) -> Any:
    raise pickle.UnpicklingError("the file makes an array by a way of its own")


_NDARRAY = Function(_refuse)
_NAMES: dict[str, Function] = {
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": Function(_make_dtype),
    "collections.OrderedDict": Function(_Dict),
    "_codecs.encode": Function(_encode),
    "__builtin__.bytes": Function(_no_bytes),
}
for _core in ("core", "_core"):  # both spellings of numpy
    _NAMES[f"numpy.{_core}.multiarray._reconstruct"] = Function(_reconstruct)
    _NAMES[f"numpy.{_core}.multiarray.scalar"] = Function(_scalar)
    _NAMES[f"numpy.{_core}.numeric._frombuffer"] = Function(_frombuffer)


class ArrayUnpickler(BoundedUnpickler):
    """Unpickler that builds numpy arrays of numbers, and containers, and refuses all else.

    Args:
        file: open for reading bytes; it must be able to seek.
        encoding: of Python 2's texts; "latin1" for arrays.
    """

    names = _NAMES

    def build(self, item: Any, state: Any) -> None:
        """Give an array, a dtype or an ordered dict its state; see the base class."""
        require(isinstance(item, (_Array, _Dtype, _Dict)), "a state")
        item.set_state(state)

    def _frame(self) -> None:
        self.read(8)  # its length; what is in it follows

    def _bytearray(self) -> None:
        self.stack.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    # Of all protocols, with which both Pythons write numbers, texts and containers.
    dispatch: ClassVar[dict[int, Any]] = Opcodes(
        {
            **BoundedUnpickler.dispatch,
            **opcodes(
                *(pickle.INT, pickle.LONG, pickle.FLOAT),
                *(pickle.STRING, pickle.BINSTRING, pickle.UNICODE, pickle.SHORT_BINUNICODE),
                *(pickle.BINUNICODE8, pickle.SHORT_BINBYTES, pickle.BINBYTES, pickle.BINBYTES8),
                *(pickle.LIST, pickle.DICT, pickle.ADDITEMS, pickle.STACK_GLOBAL),
                *(pickle.PUT, pickle.GET, pickle.MEMOIZE),
            ),
        }
    )
    dispatch[pickle.FRAME[0]] = _frame
    dispatch[pickle.BYTEARRAY8[0]] = _bytearray
