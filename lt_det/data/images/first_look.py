"""First look at the image files of records before a run: missing, cut, no images, other sizes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.annotations.naming import NUM_NAMED
from lt_det.data.inspection.image_files import read_images

logger = logging.getLogger(__name__)

# Records that are looked at before a run, from all over the data set.
_LOOKED_AT = 5000
# Images that look cut that are decoded: seconds, not minutes.
_DECODED = 200


def some_of(records: Sequence[Any]) -> Iterator[Any]:
    """Return up to 5,000 records, from all over a data set, always the same ones."""
    rows = np.unique(np.linspace(0, len(records) - 1, min(len(records), _LOOKED_AT)).astype(int))
    return (records[row] for row in rows.tolist())


def check_image_files(records: Sequence[Mapping[str, Any]], *, what: str) -> None:
    """Raise for images that a run would stop at, as their headers and ends say.

    Of many records :func:`some_of` them are looked at; the log says so. What looks cut is decoded
    and refused only if that fails.

    Args:
        records: with "file_name", and "width" and "height" where they are known. Addresses such
            as ``s3://``, and records that hold their "image", are left out.
        what: the data set, for the error.

    Raises:
        ValueError: names the first images, what is wrong with them, and what to do.
    """
    looked_at = [
        record
        for record in some_of(records)
        if isinstance(record.get("file_name"), str)
        and "://" not in record["file_name"]
        and "image" not in record
    ]
    wrong = []
    facts = read_images(
        [record["file_name"] for record in looked_at], quick=True, most_decoded=_DECODED
    )
    if looked_at and len(records) > _LOOKED_AT:
        logger.info(
            "%s: %d of %d images were looked at before the start; lt-det check-data looks at all",
            what,
            len(looked_at),
            len(records),
        )
    doubtful = [fact.is_doubtful for fact in facts].count(True)
    if doubtful:
        logger.info(
            "%s: %d images do not end as their format says and were not decoded before the start; "
            "lt-det check-data decodes all",
            what,
            doubtful,
        )
    for record, fact in zip(looked_at, facts):
        declared = (record.get("width"), record.get("height"))
        problem = fact.problem
        if not problem and None not in declared and declared != fact.upright_size:
            turned = " (its EXIF orientation turns it)" if declared == fact.size else ""
            problem = "{} x {} in the json, {} x {} in the file{}".format(
                *declared, *fact.upright_size, turned
            )
        if problem:
            wrong.append(f"{record['file_name']}: {problem}")
    if wrong:
        raise ValueError(
            f"{what}: {len(wrong)} of {len(looked_at)} images that were looked at cannot be used, "
            f"first {'; '.join(wrong[:NUM_NAMED])}. Correct the image folder or the files "
            "(copy cut ones again), or take them out of the data; lt-det check-data finds all such"
        )
