"""Config keys in the messages of functions that know only their arguments."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator


@contextlib.contextmanager
def naming_keys(**keys: str) -> Iterator[None]:
    """Replace argument names by config keys in an error that the block raises.

    What is below the builders takes plain arguments and says in its errors which of them is wrong;
    who hands on the value of a key says here where it came from.

    Args:
        keys: argument name -> config key; of each the first mention is replaced.

    Raises:
        ValueError: the block's, with the keys in its message; likewise TypeError, KeyError and
            ImportError.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError, ImportError) as error:
        message = found = str(error.args[0]) if error.args else ""
        for argument, key in keys.items():
            # Keys hold no backslash, so they are their own replacement.
            message = re.sub(rf"(?<![\w.]){argument}(?![\w.])", key, message, count=1)
        if message == found:
            raise
        raise type(error)(message) from error
