"""Detections of a whole data set as arrays.

A dictionary with a box costs about 700 bytes, a row of these arrays 36; LVIS v1 validation at 300
detections an image has six million of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lt_det.evaluation.detection_records import check_records
from lt_det.evaluation.lvis.encoded_masks import EncodedMasks
from lt_det.storage.regular_file import open_regular

# Records made at once when they are written: array rows become Python numbers much faster in bulk.
_RECORDS_AT_ONCE = 4096

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Detections:
    """N detections, in the order in which the model gave them.

    The order decides which of two equal scores comes first, so it is part of the data.

    Attributes:
        image_ids: ``(N,)`` int64, ids of the json.
        category_ids: ``(N,)`` int64, ids of the json (not contiguous ids).
        scores: ``(N,)`` float32 or float64, finite.
        boxes: ``(N, 4)`` float32 or float64 XYWH in absolute pixels, finite; None if there are
            masks only.
        masks: N run-length codes; None if there are boxes only.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray | None = None
    masks: EncodedMasks | None = None

    def __post_init__(self) -> None:
        count = len(self.image_ids)
        for name in ("image_ids", "category_ids"):
            ids = getattr(self, name)
            # Of no detections NumPy makes float64.
            if count and not np.issubdtype(np.asarray(ids).dtype, np.integer):
                raise ValueError(f"detections: {name} must be whole numbers, got {ids.dtype}")
        columns = {name: getattr(self, name) for name in ("category_ids", "scores")}
        columns.update(
            {
                name: getattr(self, name)
                for name in ("boxes", "masks")
                if getattr(self, name) is not None
            }
        )
        for name, column in columns.items():
            if len(column) != count:
                raise ValueError(f"detections: {name} has {len(column)} rows, image_ids {count}")
        for name in ("scores", "boxes"):
            column = getattr(self, name)
            if column is None or not count:
                continue
            bad = ~np.isfinite(column).reshape(count, -1).all(axis=1)
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                raise ValueError(
                    f"detections: {int(bad.sum())} {name} are not finite, first in image "
                    f"{int(self.image_ids[row])}: {np.asarray(column[row]).tolist()}; "
                    "the model diverged or divides by zero there"
                )

    def __len__(self) -> int:
        return len(self.image_ids)

    @classmethod
    def from_records(cls, records: Records) -> Detections:
        """Return the columns of detections in the COCO and LVIS result format.

        Args:
            records: dictionaries with "image_id", "category_id", "score" and "bbox" (XYWH) or
                "segmentation" (compressed run-length encoding) or both, the same for all.

        Raises:
            ValueError: if a record lacks a key that others have, or as
                :func:`~lt_det.evaluation.detection_records.check_records`.
        """
        has_boxes, has_masks = (
            any(isinstance(record, Mapping) and key in record for record in records)
            for key in ("bbox", "segmentation")
        )
        if records and not (has_boxes or has_masks):
            has_boxes = True  # and so the first record lacks it
        check_records(records, has_boxes=has_boxes, has_masks=has_masks)
        boxes = np.array([r["bbox"] for r in records], dtype=np.float64) if has_boxes else None
        return cls(
            image_ids=np.array([r["image_id"] for r in records], dtype=np.int64),
            category_ids=np.array([r["category_id"] for r in records], dtype=np.int64),
            scores=np.array([r["score"] for r in records], dtype=np.float64),
            boxes=boxes,
            masks=(
                EncodedMasks.from_dicts([r["segmentation"] for r in records]) if has_masks else None
            ),
        )

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield one json-serialisable dictionary a detection, in Detectron2's result format."""
        for start in range(0, len(self), _RECORDS_AT_ONCE):
            part = slice(start, start + _RECORDS_AT_ONCE)
            columns = {"image_id": self.image_ids[part], "category_id": self.category_ids[part]}
            if self.boxes is not None:
                columns["bbox"] = self.boxes[part]
            columns["score"] = self.scores[part]
            for row, values in enumerate(zip(*(c.tolist() for c in columns.values())), start):
                record = dict(zip(columns, values))
                if self.masks is not None:
                    mask = self.masks[row]
                    # pycocotools gives bytes, json knows only text.
                    record["segmentation"] = {**mask, "counts": mask["counts"].decode()}
                yield record

    def take(self, rows: np.ndarray) -> Detections:
        """Return the detections at ``rows``, an int array, in that order."""
        return Detections(
            image_ids=self.image_ids[rows],
            category_ids=self.category_ids[rows],
            scores=self.scores[rows],
            boxes=None if self.boxes is None else self.boxes[rows],
            masks=None if self.masks is None else self.masks.take(rows),
        )

    def top_scoring(self, max_dets: int) -> Detections:
        """Return each image's ``max_dets`` highest scores over all categories.

        Of equal scores the earlier detection stays. This is LVIS's limit (300); it is not a limit
        for each category. The order of what stays is unchanged where images are contiguous.
        """
        within = self.within_limit(max_dets)
        return self if within.all() else self.take(np.flatnonzero(within))

    def within_limit(self, max_dets: int) -> np.ndarray:
        """Return ``(N,)`` bool: whether a detection is among those of :meth:`top_scoring`."""
        starts, lengths = self.image_runs()
        one_run_each = len(np.unique(self.image_ids[starts])) == len(starts)
        within = np.ones(len(self), dtype=bool)
        if one_run_each and (lengths <= max_dets).all():
            return within
        # lexsort is stable and sorts by its last key first: by image, then by falling score.
        order = np.lexsort((-self.scores, self.image_ids))
        images = self.image_ids[order]
        starts, lengths = _runs(images)
        rank = np.arange(len(images)) - np.repeat(starts, lengths)
        within[order[rank >= max_dets]] = False
        return within

    def image_runs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return first rows and lengths, int64, of the runs of detections of one image."""
        return _runs(self.image_ids)

    def geometry(self, iou_type: str) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(N, 4)`` XYWH boxes and ``(N,)`` areas in px, float64, of the boxes or masks.

        Args:
            iou_type: "bbox", or "segm" for the masks and the smallest boxes around them.

        Raises:
            ValueError: if there are detections without what is asked for.
        """
        self.check_has(iou_type)
        if not len(self):
            return np.zeros((0, 4)), np.zeros(0)
        if iou_type == "segm" and self.masks is not None:
            return self.masks.boxes_and_areas()
        # Products of float32 sides in double, as they would be after a json.
        boxes = np.asarray(self.boxes, dtype=np.float64)
        return boxes, boxes[:, 2] * boxes[:, 3]

    def check_has(self, iou_type: str) -> None:
        """Raise if there are detections, but without boxes or masks.

        Raises:
            ValueError: says what is needed.
        """
        if iou_type == "bbox" and self.boxes is None and len(self):
            raise ValueError("iou_type='bbox' needs detections with bbox, got masks only")
        if iou_type == "segm" and self.masks is None and len(self):
            raise ValueError("iou_type='segm' needs detections with segmentation, got boxes only")


def as_detections(detections: Detections | Records | str | os.PathLike) -> Detections:
    """Return ``detections`` as arrays: given so, as result records, or as a json file of those.

    Raises:
        FileNotFoundError: if there is no such file.
        TypeError: if they are no list.
        ValueError: if a file is no json of them, or as :meth:`Detections.from_records`.
    """
    if isinstance(detections, Detections):
        return detections
    if isinstance(detections, (str, os.PathLike)):
        path = os.fspath(detections)
        try:
            with open_regular(path, "r", encoding="utf-8-sig") as file:
                return as_detections(json.load(file))
        except RecursionError as error:
            raise ValueError(f"{path} is no json of detections: it is nested too deeply") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is no json of detections: {error}") from error
    if not isinstance(detections, list):
        raise TypeError(
            f"detections: expected a list of result records, got {type(detections).__name__}"
        )
    return Detections.from_records(detections)


def _runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and lengths of the runs of equal values."""
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    starts = np.concatenate([np.zeros(min(1, len(values)), dtype=np.int64), changes])
    return starts, np.diff(np.append(starts, len(values)))
