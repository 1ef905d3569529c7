"""Read known_faults.yaml: faults that are easily made, with the tests that find them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import yaml

LIST = Path(__file__).with_suffix(".yaml")


class Fault(NamedTuple):
    """A fault that tests must find.

    Attributes:
        name: what goes wrong.
        path: of the file, from the root of the repository.
        old: text that is in it once.
        new: text in its place.
        tests: ids of tests; at least one must fail.
    """

    name: str
    path: str
    old: str
    new: str
    tests: list[str]


def known_faults(words: list[str] | None = None) -> list[Fault]:
    """Return the faults whose name contains one of the words; without words all.

    Raises:
        ValueError: if no fault is left.
    """
    faults = [Fault(**row) for row in yaml.safe_load(LIST.read_text())]
    found = [f for f in faults if not words or any(word in f.name for word in words)]
    if not found:
        raise ValueError(f"no fault of {LIST.name} has one of {words} in its name")
    return found
