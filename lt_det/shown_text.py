"""Make names from foreign files harmless in terminals, spreadsheets and plots."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

# Control characters, also those that turn the direction of writing, and halves of characters.
_UNSHOWABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_COLOURS = re.compile("(\x1b\\[[0-9;]*m)")


def for_terminal(text: str) -> str:
    r"""Return a text whose control characters are written out, as ``\x1b`` or ``\u202e``.

    An escape sequence in a class name could else change what a terminal shows.

    Args:
        text: any; new lines and tabs are written out too.
    """
    return "".join(_shown(character) for character in text)


def for_log(message: str) -> str:
    """Return :func:`for_terminal` of a message that keeps its lines, tabs and colours.

    Args:
        message: of a log.
    """
    parts = _COLOURS.split(message)
    return "".join(
        part if place % 2 else "".join(c if c in "\n\t" else _shown(c) for c in part)
        for place, part in enumerate(parts)
    )


def for_plot(text: str) -> str:
    """Return :func:`for_terminal` of a text that matplotlib is to draw as it is.

    Between two dollars it would look for a formula.

    Args:
        text: any.
    """
    return for_terminal(text).replace("$", r"\$")


def for_csv(value: Any) -> Any:
    """Return the value of a csv cell that no spreadsheet takes for a formula.

    Texts that begin with ``= + - @``, a tab or a carriage return get a ``'`` in front, which
    spreadsheets do not show. Numbers stay, negative ones too.

    Args:
        value: of any type; others than texts are returned as they are.
    """
    if isinstance(value, str) and value[:1] in set("=+-@\t\r") and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) not in _UNSHOWABLE:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()
