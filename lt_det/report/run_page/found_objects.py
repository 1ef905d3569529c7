"""Look up what is in an image and what a run found there."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from lt_det.data.annotations.checks import is_crowd
from lt_det.data.annotations.json_file import read_annotation_json
from lt_det.evaluation.detections import Detections, as_detections

#: Larger files of detections are not read for pictures (bytes): each takes ten times that memory.
MOST_BYTES = 2**30


@dataclass(frozen=True)
class TestSet:
    """Images and objects of a test set.

    Attributes:
        paths: image id -> file.
        names: category id -> class name.
        objects: image id -> annotations with "category_id" and "bbox", no crowds.
    """

    __test__ = False

    paths: dict[int, str]
    names: dict[int, str]
    objects: dict[int, list[dict[str, Any]]]

    @classmethod
    def read(cls, json_file: str, image_root: str) -> TestSet:
        """Return the test set of a COCO- or LVIS-format json.

        Args:
            json_file: annotations.
            image_root: folder of the images.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no such json.
        """
        content = read_annotation_json(
            json_file, name=os.path.basename(json_file), keep_segmentations=False
        )
        objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for one in content["annotations"]:
            if not is_crowd(one) and "bbox" in one:
                objects[one["image_id"]].append(one)
        paths = {i["id"]: os.path.join(image_root, file_name(i)) for i in content["images"]}
        names = {c["id"]: str(c.get("name", c["id"])) for c in content["categories"]}
        return cls(paths, names, dict(objects))


def file_name(image: dict[str, Any]) -> str:
    """Return the file of an image of a json; LVIS has it as the end of ``coco_url`` only."""
    if image.get("file_name"):
        return str(image["file_name"])
    parts = str(image.get("coco_url", "")).split("/")
    return "/".join(parts[-2:])


@dataclass(frozen=True)
class Finds:
    """Detections of a run, by image."""

    detections: Detections
    rows: dict[int, np.ndarray]

    @classmethod
    def read(cls, path: str) -> Finds:
        """Return the detections of a json with boxes.

        Raises:
            ValueError: if it is no such json, too large, or has masks only.
        """
        if os.path.getsize(path) > MOST_BYTES:
            raise ValueError(f"{path} is larger than {MOST_BYTES // 2**30} GiB")
        found = as_detections(path)
        found.check_has("bbox")
        order = np.argsort(found.image_ids, kind="stable")
        images, starts = np.unique(found.image_ids[order], return_index=True)
        parts = np.split(order, starts[1:]) if len(images) else []
        return cls(found, dict(zip(images.tolist(), parts)))

    def of_image(
        self, image_id: int, *, least: float = 0.0, category_id: int | None = None
    ) -> list[tuple[int, float, list[float]]]:
        """Return category id, score and XYWH box of what was found, best score first."""
        rows = self.rows.get(image_id, np.zeros(0, dtype=int))
        scores = self.detections.scores[rows]
        kept = scores >= least
        if category_id is not None:
            kept &= self.detections.category_ids[rows] == category_id
        rows = rows[kept]
        rows = rows[np.argsort(-self.detections.scores[rows], kind="stable")]
        boxes = self.detections.boxes
        if boxes is None:  # a json without any detection
            return []
        return [
            (
                int(self.detections.category_ids[r]),
                float(self.detections.scores[r]),
                boxes[r].tolist(),
            )
            for r in rows
        ]


def overlaps(boxes: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> np.ndarray:
    """Return ``(n, m)`` IoU of XYWH boxes."""
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    return np.asarray(
        coco_mask.iou(
            np.array(boxes, dtype=np.float64), np.array(others, dtype=np.float64), [0] * len(others)
        )
    ).reshape(len(boxes), len(others))
