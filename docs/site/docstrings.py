"""Docstrings for the site: Sphinx roles become links, each object stands on one page."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(~?)([\w.]+)`")


class Docstrings(griffe.Extension):
    """Replaces roles by links; takes back what a package only hands on from its modules."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change an object that was loaded."""
        if obj.is_module:
            obj.exports = None  # type: ignore[attr-defined] # imported names are not shown twice
        if obj.docstring:
            obj.docstring.value = ROLE.sub(lambda match: _link(obj, match), obj.docstring.value)


def _link(obj: griffe.Object, match: re.Match[str]) -> str:
    """Return a link if the name is on a page, else its text."""
    name = match[2].lstrip(".")
    text = name.rpartition(".")[2] if match[1] else name
    return f'<autoref identifier="{_path(obj, name)}" optional>`{text}`</autoref>'


def _path(obj: griffe.Object, name: str) -> str:
    """Return the whole name, looked up from the object outwards."""
    first, scope = name.partition(".")[0], obj
    while scope is not None:
        if first in scope.members and f"{scope.path}.{first}" != name:
            member = scope.members[first]
            start = member.target_path if member.is_alias else member.path
            return start + name[len(first) :]
        scope = scope.parent
    return name
