"""Ids and sizes of a json: text that is a number, repeated ones, and new ones in their place."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from lt_det.data.annotations.schema import is_id

#: Ids beyond it leave too little room to count on from them.
LARGEST_NUMBERED = 2**62


def as_int(value: Any) -> int | None:
    """Return the whole number of 64 bits that an id means: 7 of 7, "7" and 7.0; None if none."""
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    elif isinstance(value, str):
        text = value.strip()
        digits = text.removeprefix("-")
        # More than twenty digits are none, and Python refuses to read thousands.
        is_number = text.isascii() and digits.isdigit() and len(digits.lstrip("0")) <= 20
        value = int(text) if is_number else None
    return value if is_id(value) else None


def is_int(value: Any) -> bool:
    """Return whether an id is a whole number of 64 bits already."""
    return is_id(value)


def repeated(values: Iterable[Hashable]) -> set[Any]:
    """Return the values that occur more than once."""
    return {value for value, count in Counter(values).items() if count > 1}


def whole_numbers(ids: Sequence[Any]) -> dict[Any, int] | None:
    """Return id -> whole number, without a guess; None if two ids would become one.

    Numbers written as text keep their value. Where one id is no number at all, all that are none
    get the next free ones in the order of the file.

    Args:
        ids: of images or of categories; different from each other.
    """
    numbers = {value: as_int(value) for value in ids}
    taken = {number for number in numbers.values() if number is not None}
    if len(taken) < sum(number is not None for number in numbers.values()):
        return None
    free = free_numbers(taken)
    return {value: next(free) if number is None else number for value, number in numbers.items()}


def colliding(ids: Sequence[Any]) -> dict[int, str]:
    """Return row -> text, of ids that are one whole number written in two ways: 7 and "7".

    Args:
        ids: of images or of categories.
    """
    by_number: dict[int, list[Any]] = {}
    for value in dict.fromkeys(ids):
        number = as_int(value)
        if number is not None:
            by_number.setdefault(number, []).append(value)
    other = {v: o for same in by_number.values() for v in same for o in same if o != v}
    return {
        row: f"is {value!r}, another is {other[value]!r}"
        for row, value in enumerate(ids)
        if value in other
    }


def free_numbers(taken: Collection[int]) -> Iterator[int]:
    """Yield ids that are not taken: those after the largest, from 1 on where it is too large."""
    largest = max(taken, default=0)
    start = largest + 1 if largest < LARGEST_NUMBERED else 1
    return (number for number in itertools.count(start) if number not in taken)


def looked_up(value: Any, numbers: dict[Any, int]) -> Any:
    """Return the new id that a reference to an old one gets; the reference if there is none."""
    if value in numbers:
        return numbers[value]
    number = as_int(value)
    return number if number is not None and number in set(numbers.values()) else value


def size_of_texts(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return width and height of an image where one or both are texts that say a number."""
    sides = (image.get("width"), image.get("height"))
    if not any(isinstance(side, str) for side in sides):
        return None
    numbers = []
    for side in sides:
        try:
            number = as_int(float(side) if isinstance(side, str) else side)
        except (ValueError, OverflowError):
            return None
        if number is None or number <= 0:
            return None
        numbers.append(number)
    return numbers[0], numbers[1]
