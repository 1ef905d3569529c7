"""Types of the fields of a COCO- or LVIS-format json, the one table that every reader asks.

A field of a wrong type would else be met hours later: by the evaluation, by a plot, or by the
reader of an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lt_det.data.annotations.naming import NUM_NAMED, Doubt, shortened
from lt_det.data.annotations.run_lengths import MOST_PIXELS

#: Keys that a json must have, each a list of objects.
LISTS = ("images", "annotations", "categories")
_LOWEST, _HIGHEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True)
class Field:
    """What a field may hold.

    Attributes:
        key: of the object.
        fits: value -> whether it may be one; asked where the key is there.
        expected: in words.
        needed: whether the key must be there.
        plain: types of which every value fits, so that none is asked for.
    """

    key: str
    fits: Callable[[Any], bool]
    expected: str
    needed: bool = False
    plain: frozenset[type] = frozenset()


def is_id(value: Any) -> bool:
    """Return whether a value is a whole number of 64 bits, as ids must be."""
    return type(value) is int and _LOWEST <= value <= _HIGHEST


def is_text(value: Any) -> bool:
    """Return whether a value is a text that files and plots take: no NUL, no half character."""
    return isinstance(value, str) and "\0" not in value and _has_whole_characters(value)


def _has_whole_characters(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _absent_or(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


_SCALARS: frozenset[type] = frozenset((str, int, float, bool, type(None)))


_ID = "a whole number that 64 bits hold"
_TEXT = "a text without NUL and halves of characters"
_IDS = "a list of whole numbers, which may be empty"

FIELDS: dict[str, tuple[Field, ...]] = {
    "images": (
        Field("id", is_id, _ID, needed=True),
        Field("file_name", _absent_or(lambda v: is_text(v) and v != ""), f"{_TEXT}, and not empty"),
        Field("coco_url", _absent_or(is_text), _TEXT),
        Field("neg_category_ids", _list_of(is_id), _IDS),
        Field("not_exhaustive_category_ids", _list_of(is_id), _IDS),
    ),
    "annotations": (
        Field("id", _is_scalar, "a whole number", plain=_SCALARS),
        Field("image_id", _is_scalar, _ID, plain=_SCALARS),
        Field("category_id", _is_scalar, _ID, plain=_SCALARS),
    ),
    "categories": (
        Field("id", is_id, _ID, needed=True),
        Field("name", is_text, _TEXT, needed=True),
        Field("synonyms", _list_of(is_text), "a list of texts"),
        Field("frequency", lambda v: v in ("r", "c", "f"), "r, c or f, or absent"),
        # Others than whole numbers are as good as absent: the class is counted.
        Field("image_count", lambda v: type(v) is not int or 0 <= v <= _HIGHEST, "at least 0"),
        Field("instance_count", lambda v: type(v) is not int or 0 <= v <= _HIGHEST, "at least 0"),
    ),
}


def wrong_fields(entries: Sequence[Mapping[str, Any]], of: str) -> list[Doubt]:
    """Return the fields of a list that hold what they may not; one for each key, with all rows.

    Args:
        entries: of ``images``, ``annotations`` or ``categories``, each an object.
        of: which of the three.
    """
    found = []
    for field in FIELDS[of]:
        key, fits = field.key, field.fits
        if field.plain and {type(entry.get(key)) for entry in entries} <= field.plain:
            continue
        if field.needed:
            wrong = [not fits(entry.get(key)) for entry in entries]
        else:
            wrong = [key in entry and not fits(entry[key]) for entry in entries]
        if any(wrong):
            what = f"must be {field.expected}"
            rows = np.flatnonzero(wrong)
            found.append(
                Doubt(f"{key}-type", what, rows, "correct or remove them", show=key, is_error=True)
            )
    return found


def check_fields(json_dict: Mapping[str, Any], *, name: str) -> None:
    """Raise unless all lists of a json hold objects whose fields have the right types.

    Args:
        json_dict: has ``images``, ``annotations`` and ``categories``.
        name: data set, for messages.

    Raises:
        ValueError: names the data set, the key and the first offenders.
    """
    for key in LISTS:
        check_entries(json_dict[key], of=key, name=name)


def check_entries(entries: Any, *, of: str, name: str) -> None:
    """Raise unless a list of a json holds objects whose fields have the right types.

    Args:
        entries: what the json has.
        of: its key.
        name: data set, for messages.

    Raises:
        ValueError: names the data set, the key and the first offenders.
    """
    where = f"data set {name!r}: '{of}' of the json"
    if not isinstance(entries, list):
        raise ValueError(f"{where} must be a list, got {shortened(entries)}")
    odd = [row for row, entry in enumerate(entries) if not isinstance(entry, dict)]
    if odd:
        first = ", ".join(f"#{row}: {shortened(entries[row])}" for row in odd[:NUM_NAMED])
        raise ValueError(
            f"{where} must hold objects, not so for {len(odd)} of {len(entries)}, first {first}"
        )
    for wrong in wrong_fields(entries, of):
        raise ValueError(
            f"{where}: '{wrong.show}' {wrong.what}, not so for {len(wrong.rows)} of "
            f"{len(entries)}, first {first_entries(entries, wrong.rows, of=of, show=wrong.show)}; "
            f"{wrong.advice}"
        )


def check_image_sizes(images: Sequence[Mapping[str, Any]], *, name: str) -> None:
    """Raise unless all images have a width and a height; counting does without.

    Args:
        images: of a json, checked by :func:`check_fields`.
        name: data set, for messages.

    Raises:
        ValueError: names the data set and the first offenders.
    """
    rows = [row for row, image in enumerate(images) if not has_size(image)]
    if rows:
        sizes = [f"{images[r]['id']}: {size_text(images[r])}" for r in rows[:NUM_NAMED]]
        raise ValueError(
            f"data set {name!r}: the json: 'images' must have a 'height' and a 'width' in pixels, "
            f"whole numbers above 0 and together at most {MOST_PIXELS}, not so for {len(rows)}, "
            f"first ids {', '.join(sizes)}"
        )


def has_size(image: Mapping[str, Any]) -> bool:
    """Return whether an image has a width and a height that can be those of an image."""
    width, height = image.get("width"), image.get("height")
    if not (_is_side(width) and _is_side(height)):
        return False
    return width * height <= MOST_PIXELS  # type: ignore[operator]


def size_text(image: Mapping[str, Any]) -> str:
    """Return ``width x height`` as a json has them, whatever that is."""
    return f"{shortened(image.get('width'))} x {shortened(image.get('height'))}"


def first_entries(entries: Sequence[Mapping[str, Any]], rows: Any, *, of: str, show: str) -> str:
    """Return e.g. ``image 3: '1.png'`` of the first of the rows."""
    first = []
    for row in map(int, rows[:NUM_NAMED]):
        entry = entries[row]
        number = entry.get("id")
        label = f"{_SINGULAR[of]} {shortened(number)}" if is_id(number) else f"#{row}"
        if of == "annotations" and is_id(entry.get("image_id")):
            label += f" of image {entry['image_id']}"
        first.append(f"{label}: {shortened(entry.get(show))}")
    return ", ".join(first)


_SINGULAR = {"images": "image", "annotations": "annotation", "categories": "category"}


def _is_side(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value) and value.is_integer() and value > 0
    return type(value) is int and value > 0
