"""Detections of a whole data set as arrays, instead of one dictionary each.

A dictionary with a box costs about 700 bytes, a row of these arrays 56; LVIS v1 validation at 300
detections an image has six million of them.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Iterator, Mapping, Sequence

import numpy as np
import pycocotools.mask as mask_utils

_MASKS_AT_ONCE = 255

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Detections:
    """N detections, in the order in which the model gave them.

    The order decides which of two equal scores comes first, so it is part of the data.

    Attributes:
        image_ids: ``(N,)`` int64, ids of the json.
        category_ids: ``(N,)`` int64, ids of the json (not contiguous ids).
        scores: ``(N,)`` float64, finite.
        boxes: ``(N, 4)`` float64 XYWH in absolute pixels, finite; None if there are masks only.
        masks: N run-length encodings ``{"size": [h, w], "counts": bytes or str}``; None if there
            are boxes only.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray | None = None
    masks: Sequence[Mapping[str, Any]] | None = None

    def __post_init__(self) -> None:
        count = len(self.image_ids)
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
            ValueError: if a record lacks a key that others have, or a number is not finite.
        """
        has_boxes = any("bbox" in record for record in records)
        has_masks = any("segmentation" in record for record in records)
        needed = ["image_id", "category_id", "score"]
        needed += ["bbox"] * has_boxes + ["segmentation"] * has_masks
        for index, record in enumerate(records):
            missing = [key for key in needed if key not in record]
            if missing:
                raise ValueError(f"detections: record {index} lacks {missing}: {sorted(record)}")
        boxes = np.array([r["bbox"] for r in records], dtype=np.float64) if has_boxes else None
        return cls(
            image_ids=np.array([r["image_id"] for r in records], dtype=np.int64),
            category_ids=np.array([r["category_id"] for r in records], dtype=np.int64),
            scores=np.array([r["score"] for r in records], dtype=np.float64),
            boxes=boxes,
            masks=[r["segmentation"] for r in records] if has_masks else None,
        )

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield one json-serialisable dictionary a detection, in Detectron2's result format."""
        for row in range(len(self)):
            record: dict[str, Any] = {
                "image_id": int(self.image_ids[row]),
                "category_id": int(self.category_ids[row]),
            }
            if self.boxes is not None:
                record["bbox"] = self.boxes[row].tolist()
            record["score"] = float(self.scores[row])
            if self.masks is not None:
                record["segmentation"] = _with_text_counts(self.masks[row])
            yield record

    def take(self, rows: np.ndarray) -> Detections:
        """Return the detections at ``rows``, an int array, in that order."""
        return Detections(
            image_ids=self.image_ids[rows],
            category_ids=self.category_ids[rows],
            scores=self.scores[rows],
            boxes=None if self.boxes is None else self.boxes[rows],
            masks=None if self.masks is None else [self.masks[row] for row in rows],
        )

    def top_scoring(self, max_dets: int) -> Detections:
        """Return each image's ``max_dets`` highest scores over all categories.

        Of equal scores the earlier detection stays. This is LVIS's limit (300); it is not a limit
        for each category. The order of what stays is unchanged where images are contiguous.
        """
        # lexsort is stable and sorts by its last key first: by image, then by falling score.
        order = np.lexsort((-self.scores, self.image_ids))
        images = self.image_ids[order]
        starts = np.flatnonzero(np.r_[True, images[1:] != images[:-1]]) if len(images) else images
        lengths = np.diff(np.r_[starts, len(images)])
        rank = np.arange(len(images)) - np.repeat(starts, lengths)
        return self.take(np.sort(order[rank < max_dets]))

    def geometry(self, iou_type: str) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(N, 4)`` XYWH boxes and ``(N,)`` areas in px, float64, of the boxes or masks.

        Args:
            iou_type: "bbox", or "segm" for the masks and the smallest boxes around them.

        Raises:
            ValueError: if there are detections without what is asked for.
        """
        if not len(self):
            return np.zeros((0, 4)), np.zeros(0)
        if iou_type == "bbox":
            if self.boxes is None:
                raise ValueError("iou_type='bbox' needs detections with bbox, got masks only")
            return self.boxes, self.boxes[:, 2] * self.boxes[:, 3]
        if self.masks is None:
            raise ValueError("iou_type='segm' needs detections with segmentation, got boxes only")
        masks = list(self.masks)
        return mask_utils.toBbox(masks), _mask_areas(masks)


def as_detections(detections: Detections | Records | str | os.PathLike) -> Detections:
    """Return ``detections`` as arrays: given so, as result records, or as a json file of those."""
    if isinstance(detections, Detections):
        return detections
    if isinstance(detections, (str, os.PathLike)):
        with open(detections) as file:
            detections = json.load(file)
    if not isinstance(detections, list):
        raise TypeError(
            f"detections: expected a list of result records, got {type(detections).__name__}"
        )
    return Detections.from_records(detections)


def _mask_areas(masks: list[Mapping[str, Any]]) -> np.ndarray:
    # pycocotools 2.0.11 puts the number of masks into a uint8 on the way, which NumPy 2 refuses.
    parts = [
        mask_utils.area(masks[start : start + _MASKS_AT_ONCE])
        for start in range(0, len(masks), _MASKS_AT_ONCE)
    ]
    return np.concatenate(parts).astype(np.float64)


def _with_text_counts(mask: Mapping[str, Any]) -> dict[str, Any]:
    counts = mask["counts"]
    # pycocotools gives bytes, json knows only text.
    return {
        "size": list(mask["size"]),
        "counts": counts.decode() if isinstance(counts, bytes) else counts,
    }
