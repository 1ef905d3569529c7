"""Unpickling of numpy arrays and containers, and of nothing that could run code."""

from __future__ import annotations

import pickle
from typing import Any

# What a pickle of numpy arrays needs; both spellings of numpy.
_ARRAY_GLOBALS = {
    (f"numpy.{core}.multiarray", name)
    for core in ("core", "_core")
    for name in ("_reconstruct", "scalar")
} | {
    ("numpy.core.numeric", "_frombuffer"),  # pickle protocol 5
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
}


# What unpickling half a file, or no pickle at all, may raise (see Python's pickle module).
BROKEN_FILE = (
    *(pickle.UnpicklingError, EOFError, RuntimeError, ValueError, LookupError),
    *(AttributeError, ImportError, TypeError),
)


class ArrayUnpickler(pickle.Unpickler):
    """Unpickler that builds numpy arrays and containers and refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a permitted class.

        Raises:
            pickle.UnpicklingError: for any other name.
        """
        if (module, name) not in _ARRAY_GLOBALS:
            raise pickle.UnpicklingError(f"the file asks for {module}.{name}")
        return super().find_class(module, name)
