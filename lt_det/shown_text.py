"""Make names from foreign files harmless in terminals, spreadsheets and plots."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

# What spreadsheets take for the beginning of a formula, wide and other forms of the signs too.
_FORMULA = set("=+-@＝＋－＠﹢﹣﹦﹫﬩−")  # noqa: RUF001
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

    Texts that begin with ``= + - @``, also in their wide forms or behind spaces and characters
    that are not shown, or with a tab or the end of a line, get a ``'`` in front, which
    spreadsheets do not show. Numbers stay, negative ones too.

    Args:
        value: of any type; others than texts are returned as they are.
    """
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    hidden = (c.isspace() or unicodedata.category(c) in _UNSHOWABLE for c in value)
    first = next((c for c, is_hidden in zip(value, hidden) if not is_hidden), "")
    return f"'{value}" if first in _FORMULA or value[:1] in set("\t\r\n") else value


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) not in _UNSHOWABLE:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()
