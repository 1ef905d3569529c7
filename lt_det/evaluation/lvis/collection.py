"""Work on a million small objects without Python's search for unused ones."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable)


def without_collection(function: Function) -> Function:
    """Return the function with the garbage collector off while it runs.

    Each thousand of new dictionaries makes it look through older ones again, all of them in use.
    Nothing is lost: what is no longer referred to is freed at once all the same.
    """

    @functools.wraps(function)
    def quiet(*arguments, **options):  # type: ignore[no-untyped-def]
        was_on = gc.isenabled()
        gc.disable()
        try:
            return function(*arguments, **options)
        finally:
            if was_on:
                gc.enable()

    return quiet  # type: ignore[return-value]
