"""Stand for what pickles of weights name: nothing is made, what is to be made is checked.

Names that are not here are refused: no weights need them.
"""

from __future__ import annotations

import math
import pickle
from collections import Counter, OrderedDict
from typing import Any

import torch

from lt_det.storage.bounded_unpickler import Function, require

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
_MOST_ATTRIBUTES = 64
# A tensor that repeats its numbers (``expand``) may seem to have as many bytes.
_MOST_REPEATED = 2**30


class Kind:
    """A type of storage.

    Attributes:
        item_size: bytes of a number.
    """

    def __init__(self, item_size: int) -> None:
        self.item_size = item_size


class Numbers:
    """A storage.

    Attributes:
        held: its bytes.
        item_size: bytes of a number.
    """

    def __init__(self, held: int, item_size: int) -> None:
        self.held, self.item_size = held, item_size


class _Tensor:
    """A tensor."""

    def __init__(self, *, repeats: bool) -> None:
        self.repeats = repeats


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    require(isinstance(storage, Numbers), "a tensor")
    return _within(storage.held, storage.item_size, offset, size, stride)


def _typed_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> _Tensor:
    require(isinstance(storage, Numbers) and isinstance(dtype, torch.dtype), "a tensor")
    item_size = torch.empty(0, dtype=dtype).element_size()
    return _within(storage.held, item_size, offset, size, stride)


def _within(held: int, item_size: int, offset: Any, size: Any, stride: Any) -> _Tensor:
    """Return a tensor of a storage that it does not leave: torch would add memory as it was."""
    whole = (offset, *size, *stride)
    require(
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
    require(isinstance(data, _Tensor), "a parameter")
    _check_attributes(rest[2] if len(rest) > 2 else None)
    return data


def _with_type(function: Any, _kind: Any, arguments: Any, state: Any) -> Any:
    require(isinstance(function, Function), "a tensor")
    made = function.call(*arguments)
    require(isinstance(made, _Tensor), "a tensor")
    _check_attributes(state)
    return made


def _check_attributes(state: Any) -> None:
    """Raise if attributes of a tensor are among those that every tensor has."""
    for part in state if isinstance(state, tuple) else (state,):
        require(len(part or ()) <= _MOST_ATTRIBUTES, "a tensor")
        require(not any(hasattr(torch.Tensor, name) for name in part or ()), "a tensor")


def _sparse(_layout: Any, parts: Any) -> _Tensor:
    # torch looks at each of its numbers.
    tensors = [part for part in parts if isinstance(part, _Tensor)]
    require(not any(tensor.repeats for tensor in tensors), "a sparse tensor")
    return _Tensor(repeats=True)


def _encode(text: str, encoding: str) -> bytes:
    # Others make it longer each time.
    require(encoding == "latin1", "a text")
    return text.encode("latin1")


#: What a name in the pickle becomes.
NAMES: dict[str, Any] = {
    **{
        f"{module}.{name}": Kind(item_size)
        for module in _STORAGE_MODULES
        for name, item_size in _ITEM_SIZES.items()
    },
    **{f"torch.{name}": x for name, x in vars(torch).items() if isinstance(x, torch.dtype)},
    "torch._utils._rebuild_tensor": Function(_tensor),
    "torch._utils._rebuild_tensor_v2": Function(_tensor),
    "torch._utils._rebuild_tensor_v3": Function(_typed_tensor),
    "torch._utils._rebuild_parameter": Function(_parameter),
    "torch._utils._rebuild_parameter_with_state": Function(_parameter),
    "torch.nn.parameter.Parameter": Function(_parameter),
    "torch._tensor._rebuild_from_type_v2": Function(_with_type),
    "torch._utils._rebuild_sparse_tensor": Function(_sparse),
    "torch._utils._rebuild_meta_tensor_no_storage": Function(lambda *_: _Tensor(repeats=True)),
    "torch.Tensor": None,
    "torch.serialization._get_layout": Function(lambda *_: None),
    "torch.Size": Function(torch.Size),
    "torch.device": Function(torch.device),
    "collections.OrderedDict": Function(OrderedDict),
    "collections.Counter": Function(Counter),
    "_codecs.encode": Function(_encode),
    **{f"{module}.set": Function(set) for module in ("builtins", "__builtin__")},
    **{f"{module}.complex": Function(complex) for module in ("builtins", "__builtin__")},
}
