"""Write result files, whole or not at all."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from lt_det.shown_text import for_csv
from lt_det.storage.atomic_write import atomic_file

logger = logging.getLogger(__name__)

CATEGORY_COLUMNS = (
    "category_id",
    "name",
    "group",
    "num_gt_instances",
    "num_gt_images",
    "AP",
    "AP50",
    "AP75",
)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write ``value`` as strict json; a float that is not finite becomes null.

    A list of dictionaries has a line for each, all else one for each value.
    """
    with atomic_file(path) as file:
        file.write(_as_json(value, "\n") + "\n")


def _as_json(value: Any, line: str) -> str:
    """Return json text whose lines begin as ``line`` does: a line feed and spaces."""
    if isinstance(value, Mapping) and value and all(isinstance(key, str) for key in value):
        items = [f"{json.dumps(k)}: {_as_json(v, line + ' ')}" for k, v in value.items()]
        return "{" + ",".join(f"{line} {item}" for item in items) + line + "}"
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
        return "[" + ",".join(f"{line} {_in_one_line(row)}" for row in value) + line + "]"
    return json.dumps(_finite_or_none(value), indent=1, allow_nan=False).replace("\n", line)


def _in_one_line(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite_or_none(value), allow_nan=False)


def write_json_records(
    path: str | os.PathLike, records: Iterable[Mapping[str, Any]], *, count: int
) -> None:
    """Write a json list one record at a time, so that it need not fit in memory as a whole.

    Args:
        path: file to write.
        records: the items of the list.
        count: how many there are, for the progress bar (shown if it takes over 5 s).
    """
    with atomic_file(path) as file:
        separator = "["
        for record in tqdm(
            records, total=count, desc=os.path.basename(path), delay=5, disable=None
        ):
            file.write(separator + json.dumps(record))
            separator = ",\n"
        file.write("[]" if separator == "[" else "]")


def write_per_category(
    output_dir: str | os.PathLike,
    *,
    iou_type: str,
    summary: Mapping[str, float],
    categories: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    columns: Sequence[str] = CATEGORY_COLUMNS,
) -> None:
    """Write ``per_category_{iou_type}.json`` and ``.csv``.

    The json has "iou_type", the entries of ``about``, "summary", and "categories", a list with the
    ``columns``; the csv has the categories only. AP is in percent; what is undefined is null in the
    json and empty in the csv. In the csv a name that a spreadsheet would take for a formula has a
    ``'`` in front. Image classification has the ``iou_type`` "classification". The log names the
    csv.
    """
    rows = [{column: category[column] for column in columns} for category in categories]
    as_json, as_csv = per_category_files(output_dir, iou_type)
    write_json(
        as_json,
        {"iou_type": iou_type, **about, "summary": dict(summary), "categories": rows},
    )
    with atomic_file(as_csv) as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: for_csv(v) for k, v in _finite_or_none(row).items()} for row in rows)
    logger.info("Every class of %s: %s", iou_type, as_csv)


def per_category_files(output_dir: str | os.PathLike, iou_type: str) -> tuple[str, str]:
    """Return the paths of the json and the csv of :func:`write_per_category`."""
    stem = os.path.join(output_dir, f"per_category_{iou_type}")
    return stem + ".json", stem + ".csv"


def _finite_or_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite_or_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_or_none(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def nothing_found(dataset_name: str, score_threshold: str = "") -> str:
    """Return what to say of an evaluation without a single detection.

    Args:
        dataset_name: evaluated data set.
        score_threshold: key and value of the model's, where it is known.
    """
    above = f"above {score_threshold}" if score_threshold else "above the model's score threshold"
    return (
        f"{dataset_name}: nothing was detected in any image {above}, so AP says nothing. "
        "Lower the threshold (0.0001 for AP); if nothing is found then, the model is not trained "
        "yet or has diverged"
    )
