"""Keep a checked ground truth beside its json: an evaluation parses the json once.

An LVIS json takes seconds to parse and to check, the arrays of it a fraction of one. They lie in
the cache of :mod:`lt_det.data.records.record_cache`, by the content of the json.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from lt_det.data.records.record_cache import SMALLEST, cached_records
from lt_det.data.records.stored_records import StoredRecords
from lt_det.evaluation.lvis.columns import Columns
from lt_det.version import __version__

# Goes into the key: raise it when the same json would give another ground truth.
_VERSION = 2
_LISTS = ("neg_category_ids", "not_exhaustive_category_ids")


@dataclass(frozen=True)
class TruthParts:
    """Parts of a ground truth, and what was said of it.

    Attributes:
        images: as in :class:`~lt_det.evaluation.lvis.ground_truth.LVISGroundTruth`.
        annotations: likewise.
        categories: likewise.
        columns: of the annotations.
        findings: plain types.
    """

    images: list[dict[str, Any]]
    annotations: Sequence[dict[str, Any]]
    categories: list[dict[str, Any]]
    columns: Columns
    findings: Mapping[str, Any]


class StoredAnnotations(Sequence[dict]):
    """Annotations as dictionaries without segmentations, each made when it is asked for."""

    def __init__(self, columns: Columns, numbers: np.ndarray) -> None:
        """Hold the arrays; ``numbers`` is ``(M,)`` "id"."""
        self._columns, self._numbers = columns, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> dict: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict]: ...

    def __getitem__(self, index: int | slice) -> dict | list[dict]:
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        columns = self._columns
        return {
            "id": int(self._numbers[index]),
            "image_id": int(columns.image_ids[columns.images[index]]),
            "category_id": int(columns.category_ids[columns.classes[index]]),
            "bbox": columns.boxes[index].tolist(),
            "area": float(columns.areas[index]),
            "ignore": int(columns.ignored[index]),
        }


def stored_truth(
    json_file: str | os.PathLike[str],
    load: Callable[[], TruthParts],
    *,
    with_masks: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    smallest: int = SMALLEST,
) -> TruthParts:
    """Return what ``load`` returns, from the cache if the same json was loaded before.

    Args:
        json_file: what ``load`` reads.
        load: reads and checks it.
        with_masks: whether ``load`` keeps the segmentations. The two lie in the cache apart.
        cache_dir: as for :func:`~lt_det.data.records.record_cache.cached_records`.
        smallest: likewise.

    Raises:
        FileNotFoundError: if there is no json.
        ValueError: if the json is no regular file, or as ``load``.
    """
    loaded: list[TruthParts] = []
    stored: list[TruthParts] = []
    what = f"ground truth of {'masks' if with_masks else 'boxes'}"

    def load_record() -> tuple[list[dict[str, Any]], None]:
        loaded.append(load())
        return [_packed(loaded[0])], None

    def comes_back(records: StoredRecords) -> bool:
        if loaded:  # just written: no second copy of the masks
            return True
        try:
            stored.append(_unpacked(records[0]))
        except Exception:  # a broken file may break in any way; the json is read then
            return False
        return True

    if os.path.isfile(json_file) and os.path.getsize(json_file) < smallest:
        return load()
    records = cached_records(
        json_file,
        load_record,
        options=[what, _VERSION, __version__],
        is_valid=comes_back,
        cache_dir=cache_dir,
        smallest=smallest,
        what=f"{what} of {os.fspath(json_file)}",
    )
    return (loaded or stored or [_unpacked(records[0])])[-1]


def _packed(parts: TruthParts) -> dict[str, Any]:
    """Return plain types; "annotations" is what every stored record has."""
    columns, images = parts.columns, parts.images
    arrays = {
        "ids": np.array([image["id"] for image in images], dtype=np.int64),
        "sizes": np.array([(i["height"], i["width"]) for i in images], dtype=np.int64),
        "numbers": np.array([a["id"] for a in parts.annotations], dtype=np.int64),
        **vars(columns),
    }
    shared: dict[str, list[int] | None] = {}
    for key in _LISTS:
        lists = [image[key] for image in images]
        # Of an exhaustive set all images have one list of all categories.
        same = len(lists) > 1 and all(one is lists[0] for one in lists)
        shared[key] = list(lists[0]) if same else None
        if not same:
            arrays[key] = np.array(list(itertools.chain.from_iterable(lists)), dtype=np.int64)
            arrays[f"{key} ends"] = np.cumsum([len(one) for one in lists], dtype=np.int64)
    return {
        "annotations": [],
        "arrays": {
            name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()
        },
        "shared": shared,
        "categories": parts.categories,
        "findings": dict(parts.findings),
        "segmentations": {
            row: annotation["segmentation"]
            for row, annotation in enumerate(parts.annotations)
            if "segmentation" in annotation
        },
    }


def _unpacked(record: Mapping[str, Any]) -> TruthParts:
    arrays = {
        name: np.frombuffer(content, dtype=dtype).reshape(shape)
        for name, (dtype, shape, content) in record["arrays"].items()
    }
    columns = Columns(**{name: arrays[name] for name in Columns.__dataclass_fields__})
    ids, (heights, widths) = arrays["ids"].tolist(), arrays["sizes"].reshape(-1, 2).T.tolist()
    lists: list[Sequence[list[int]]] = []
    for key in _LISTS:
        same = record["shared"][key]
        if same is not None:
            lists.append([same] * len(ids))
            continue
        flat, ends = arrays[key].tolist(), arrays[f"{key} ends"].tolist()
        lists.append([flat[begin:end] for begin, end in zip([0, *ends[:-1]], ends)])
    keys = ("id", "height", "width", *_LISTS)
    annotations: Sequence[dict] = StoredAnnotations(columns, arrays["numbers"])
    if record["segmentations"]:  # all of them are asked for, some more than once
        annotations = list(annotations)
        for row, segmentation in record["segmentations"].items():
            annotations[row]["segmentation"] = segmentation
    return TruthParts(
        images=[dict(zip(keys, row)) for row in zip(ids, heights, widths, *lists)],
        annotations=annotations,
        categories=record["categories"],
        columns=columns,
        findings=record["findings"],
    )
