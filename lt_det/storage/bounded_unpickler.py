"""Unpickle within bounds: what a file asks for is no more than it has, and no code of it runs.

Python's reader in C ends the process on a deep key and takes gigabytes for a few bytes. That in
Python, used here, does neither once lengths are compared with the file, its steps are counted and
what it may do is few. Few steps read many numbers, so that it is as fast on files of weights.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, ClassVar

from lt_det.shown_text import for_terminal

# A detector has some ten thousand, the largest of CIFAR's files half a million.
_MOST_READS = 2**22
_MOST_IN_KEY = 16
_MOST_SHOWN = 80


def require(holds: bool, what: str) -> None:
    """Raise :class:`pickle.UnpicklingError` about ``what`` unless something holds."""
    if not holds:
        raise pickle.UnpicklingError(f"{what} in it is not described as files of weights do")


class Function:
    """What may be called.

    Attributes:
        call: what stands for it.
    """

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


class _Source:
    """A file of which no more is read than it has.

    Attributes:
        size: its bytes from where it stands.
    """

    def __init__(self, file: IO[bytes]) -> None:
        start = file.tell()
        self.size = self._left = file.seek(0, os.SEEK_END) - start
        self._reads = _MOST_READS
        self._file = file
        file.seek(start)

    def read(self, size: int) -> bytes:
        self._count(size)
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline()
        self._count(len(line))
        return line

    def _count(self, size: int) -> None:
        self._left -= size
        self._reads -= 1
        if self._left < 0:
            raise EOFError("it is cut off, or a part of it is to be longer than it is")
        if self._reads < 0:
            raise pickle.UnpicklingError("it has more parts than files of weights have")


class _Tuple(tuple[Any, ...]):
    """A tuple. Python's own, as a key, ends the process if deep, and never ends if it doubles."""

    __slots__ = ()

    def __hash__(self) -> int:
        deep = any(isinstance(part, tuple) for part in self)
        require(len(self) <= _MOST_IN_KEY and not deep, "a key")
        return super().__hash__()


class Opcodes(dict[int, Any]):
    """What each code of a pickle does."""

    def __missing__(self, code: int) -> Any:
        raise pickle.UnpicklingError(f"it has the pickle code {code}, which no weights need")


def opcodes(*codes: bytes) -> dict[int, Any]:
    """Return what Python's reader does at codes that :mod:`pickle` names."""
    return {code[0]: pickle._Unpickler.dispatch[code[0]] for code in codes}


class BoundedUnpickler(pickle._Unpickler):
    """Unpickler of files that may be crafted; subclasses say what those may name and build.

    Attributes:
        names: what a name, with the dots of its module, becomes; all else is refused.
        dispatch: codes that are permitted; these here are the ones that torch's own reader knows.
    """

    stack: list[Any]
    metastack: list[list[Any]]
    read: Callable[[int], bytes]
    names: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, file: IO[bytes], *, encoding: str) -> None:
        source = _Source(file)
        super().__init__(source, encoding=encoding)
        # Each part is written once; bytes that are encoded are also given to an array.
        self._left = 2 * source.size

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands here for a name.

        Raises:
            pickle.UnpicklingError: for a name that is not permitted.
        """
        dotted = f"{module}.{name}"
        if dotted not in self.names:
            shown = for_terminal(dotted[:_MOST_SHOWN])
            raise pickle.UnpicklingError(f"it names {shown}, which no weights need")
        return self.names[dotted]

    def build(self, item: Any, state: Any) -> None:
        """Give something its state; here nothing takes one.

        Raises:
            pickle.UnpicklingError: if it does not take this one.
        """
        raise NotImplementedError

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        require(isinstance(function, Function) and isinstance(arguments, tuple), "a call")
        self._spend(arguments)
        self.stack[-1] = function.call(*arguments)

    def _build(self) -> None:
        state = self.stack.pop()
        self._spend(state if isinstance(state, tuple) else (state,))
        self.build(self.stack[-1], state)

    def _spend(self, parts: Iterable[Any]) -> None:
        """Raise if parts that are copied have by now more content than the file."""
        for part in parts:
            if isinstance(part, (str, bytes, bytearray, list, tuple, dict, set)):
                self._left -= len(part)
        if self._left < 0:
            raise pickle.UnpicklingError("it copies its parts more often than files of weights do")

    dispatch: ClassVar[dict[int, Any]] = Opcodes(
        opcodes(
            *(pickle.PROTO, pickle.STOP, pickle.GLOBAL, pickle.MARK),
            *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET),
            *(pickle.NONE, pickle.NEWFALSE, pickle.NEWTRUE, pickle.BINFLOAT, pickle.LONG1),
            *(pickle.BININT, pickle.BININT1, pickle.BININT2),
            *(pickle.BINUNICODE, pickle.SHORT_BINSTRING),
            *(pickle.EMPTY_TUPLE, pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.EMPTY_SET),
        )
    )
    dispatch[pickle.REDUCE[0]] = _reduce
    dispatch[pickle.BUILD[0]] = _build
    for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):

        def _tuple(self, _load: Any = pickle._Unpickler.dispatch[_code[0]]) -> None:
            _load(self)
            self.stack[-1] = _Tuple(self.stack[-1])

        dispatch[_code[0]] = _tuple
    # Only in what is meant: an array looks at all that is in a list that is set on it.
    for _code, _kind, _place in (
        (pickle.APPEND, list, -2),
        (pickle.SETITEM, dict, -3),
        (pickle.APPENDS, list, None),
        (pickle.SETITEMS, dict, None),
    ):

        def _fill(
            self,
            _load: Any = pickle._Unpickler.dispatch[_code[0]],
            _kind: type = _kind,
            _place: int | None = _place,
        ) -> None:
            filled = self.metastack[-1][-1] if _place is None else self.stack[_place]
            require(isinstance(filled, _kind), "an item")
            _load(self)

        dispatch[_code[0]] = _fill
