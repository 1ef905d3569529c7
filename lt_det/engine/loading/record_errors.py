"""Name the image, and where it can be found the annotation, at which a mapper failed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lt_det.data.images.unusable_image import UnusableImageError

# Annotations that are mapped one by one to find the guilty one.
_TRIED = 1000


class RecordError(ValueError):
    """A record of a data set that cannot be mapped; the text names file and annotation."""


@contextlib.contextmanager
def naming_record(record: Any, mapper: Callable[[Any], Any]) -> Iterator[None]:
    """Turn an error of the block into one that names the record.

    Args:
        record: data set dict; others change nothing.
        mapper: that the block calls. It is called again, with one annotation at a time, to find the
            one that is at fault.

    Raises:
        RecordError: from the error of the block.
        UnusableImageError: as it is, it names its image, unless an annotation is at fault.
    """
    try:
        yield
    except (RecordError, ImportError):  # of a package that is missing no record is guilty
        raise
    except UnusableImageError as error:
        # The mapper says so of whatever values it stumbles over: it may be an annotation.
        cause = error.__cause__
        if not isinstance(cause, ValueError) or not _guilty(record, mapper):
            raise
        raise RecordError(_text(record, mapper, cause)) from error
    except Exception as error:
        if not isinstance(record, Mapping) or "file_name" not in record:
            raise
        raise RecordError(_text(record, mapper, error)) from error


def name_records(records: Sequence[Any], mapper: Callable[[Any], Any], error: Exception) -> None:
    """Raise an error that names the first of several records at which a mapper fails.

    Args:
        records: of a batch.
        mapper: of batches.
        error: that it raised for all of them.

    Raises:
        RecordError: from ``error``; returns where no record fails by itself.
        UnusableImageError: ``error`` itself, it names its image.
    """
    if isinstance(error, UnusableImageError):
        raise error
    for record in records:
        if isinstance(record, Mapping) and "file_name" in record:
            try:
                mapper([record])
            except Exception as own:
                raise RecordError(_text(record, None, own)) from error


def _text(record: Mapping[str, Any], mapper: Callable[[Any], Any] | None, error: Exception) -> str:
    reason = " ".join(str(error).split())
    where = f"image {record.get('image_id')} ({record['file_name']})"
    rows = _guilty(record, mapper) if mapper is not None else []
    annotations = record.get("annotations", ())
    if rows:
        row = rows[0]
        one = annotations[row]
        number = one.get("id", one.get("annotation_id"))
        called = f"annotation {number}" if number is not None else f"annotation number {row + 1}"
        where += (
            f", {called} of {len(annotations)} (class index {one.get('category_id')}, "
            f"bbox {one.get('bbox')})"
        )
    return (
        f"{where} cannot be used for training: {type(error).__name__}: {reason}. Correct it, take "
        "it out or, if the mapper is at fault, mend that; lt-det check-data finds what is wrong "
        "with the data before a training"
    )


def _guilty(record: Mapping[str, Any], mapper: Callable[[Any], Any]) -> list[int]:
    """Return the first annotation with which alone the mapper fails, if it does without any."""
    annotations = record.get("annotations") or ()
    with contextlib.suppress(Exception):
        mapper({**record, "annotations": []})
        for row, one in enumerate(annotations[:_TRIED]):
            try:
                mapper({**record, "annotations": [one]})
            except Exception:
                return [row]
    return []
