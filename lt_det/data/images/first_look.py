"""First look at the image files of records before a run: missing ones, no images, other sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lt_det.data.annotations.naming import NUM_NAMED
from lt_det.data.inspection.image_files import read_images


def check_image_files(records: Iterable[Mapping[str, Any]], *, what: str) -> None:
    """Raise for images that a run would stop at, as their headers say; cut files are not found.

    Args:
        records: with "file_name", and "width" and "height" where they are known. Addresses such
            as ``s3://`` are left out.
        what: the data set, for the error.

    Raises:
        ValueError: names the first images, what is wrong with them, and what to do.
    """
    looked_at = [
        record
        for record in records
        if isinstance(record.get("file_name"), str) and "://" not in record["file_name"]
    ]
    wrong = []
    facts = read_images([record["file_name"] for record in looked_at], quick=True)
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
            f"first {'; '.join(wrong[:NUM_NAMED])}. Correct the image folder or the files; "
            "lt-det check-data finds all such"
        )
