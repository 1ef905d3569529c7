"""Find lists that a json of annotations has twice, of which json readers keep the last alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from lt_det.data.annotations.schema import LISTS
from lt_det.storage.regular_file import open_regular

_CHUNK = 2**24  # bytes
_WORDS = tuple(f'"{key}"'.encode() for key in LISTS)

Hook = Callable[[dict[str, Any]], Any]


class RepeatedListError(ValueError):
    """A json has one of its lists more than once."""


def may_repeat_lists(path: str | os.PathLike[str]) -> bool:
    """Return whether one of the keys is in a file more than once, perhaps within other objects.

    It costs seconds a gigabyte, a tenth of reading it, so that reading all objects as pairs,
    which is slower, is left to the files that need it.
    """
    counts, rest = [0] * len(_WORDS), b""
    with open_regular(path) as file:
        while chunk := file.read(_CHUNK):
            chunk = rest + chunk
            for k, word in enumerate(_WORDS):
                # What is left of the last chunk may hold a short word as a whole: count it once.
                counts[k] += chunk.count(word) - rest.count(word)
            rest = chunk[1 - max(map(len, _WORDS)) :]
    return max(counts) > 1


def hooks(
    *, object_hook: Hook | None = None, may_repeat: bool = True
) -> tuple[dict[str, Any], Callable[[], None]]:
    """Return keywords for :func:`json.load`, and what raises afterwards for lists that repeat.

    Args:
        object_hook: see :func:`json.load`.
        may_repeat: see :func:`may_repeat_lists`; False looks at nothing.

    Returns:
        The keywords, and a function that raises :class:`RepeatedListError`.
    """
    if not may_repeat:
        return {"object_hook": object_hook}, lambda: None
    last: list[str] = []  # of the object that was read last, which in the end is the outermost

    def of_pairs(pairs: list[tuple[str, Any]]) -> Any:
        node = dict(pairs)
        last.clear()
        if len(node) < len(pairs):
            keys = [key for key, _ in pairs]
            last.extend(key for key in LISTS if keys.count(key) > 1)
        return node if object_hook is None else object_hook(node)

    def check() -> None:
        if last:
            raise RepeatedListError(
                f"'{last[0]}' is in the json more than once, of which only the last would count; "
                "join them, or remove all but one"
            )

    return {"object_pairs_hook": of_pairs}, check
