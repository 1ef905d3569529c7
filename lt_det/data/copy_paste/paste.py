"""Paste objects into a training record: pixels, masks, boxes and image lists.

Source: Ghiasi et al., "Simple Copy-Paste", arXiv:2012.07177, without blending. There, objects of a
second image are drawn alike and keep their place; here they come from the whole training set by
class weights (:class:`~lt_det.data.copy_paste.sources.PasteSources`), in any place that holds
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lt_det.data.annotations.lvis_format import FEDERATED_KEYS
from lt_det.data.copy_paste.crops import Crop
from lt_det.data.copy_paste.masks import box_of, coded, mask_of


@dataclass(frozen=True)
class PlacedObject:
    """An object at its place.

    Attributes:
        category_id: contiguous id of its class.
        crop: the object in the size that it is pasted in.
        x: column of its left edge.
        y: row of its upper edge.
    """

    category_id: int
    crop: Crop
    x: int
    y: int

    def place(self) -> tuple[slice, slice]:
        """Return the rows and columns of the image that the crop lies on."""
        height, width = self.crop.mask.shape
        return slice(self.y, self.y + height), slice(self.x, self.x + width)

    def mask(self, height: int, width: int) -> np.ndarray:
        """Return ``(height, width)`` bool."""
        mask = np.zeros((height, width), dtype=bool)
        mask[self.place()] = self.crop.mask
        return mask


def pasted_image(image: np.ndarray, objects: Sequence[PlacedObject]) -> np.ndarray:
    """Return a copy of ``(H, W, C)`` with the objects on it, the last on top."""
    image = image.copy()
    for one in objects:
        # A view: the mask chooses the pixels of the crop that replace those below.
        image[one.place()][one.crop.mask] = one.crop.pixels[one.crop.mask]
    return image


def pasted_record(
    record: Mapping[str, Any],
    objects: Sequence[PlacedObject],
    *,
    box_mode: Any,
    category_ids: Mapping[int, int] | None = None,
    exhaustive: bool = False,
) -> dict[str, Any]:
    """Return a copy of ``record`` with annotations and lists as they are after the objects.

    A mask loses what lies on it, its box is that of what is left, and an object of which nothing is
    left has no annotation any more. Annotations that nothing lies on, and crowds, stay as they
    are. So does one without a mask.

    A pasted class is negative no more. If the record has negatives, and the class was neither
    among them nor annotated, it becomes not exhaustive: more of it may be there.

    Args:
        record: Detectron2's data set dict with "height" and "width".
        objects: in the order in which they are pasted.
        box_mode: ``BoxMode.XYXY_ABS`` of new boxes; this file does not know Detectron2.
        category_ids: contiguous id -> id in the record's lists; None: the same.
        exhaustive: all classes are annotated and the lists say nothing; they stay.
    """
    if not objects:
        return dict(record)
    height, width = record["height"], record["width"]
    below = np.zeros((height, width), dtype=bool)
    pasted: list[dict[str, Any]] = []
    for one in reversed(objects):  # from the top
        mask = one.mask(height, width)
        visible = mask & ~below
        if visible.any():
            new = {"category_id": one.category_id, "iscrowd": 0}
            pasted.append(_with_mask(new, visible, box_mode=box_mode))
        below |= mask
    kept = []
    for annotation in record.get("annotations", ()):
        left = _left_of(annotation, below, box_mode=box_mode)
        if left is not None:
            kept.append(left)
    classes = [one.category_id for one in objects]
    lists = {} if exhaustive else _lists_after(record, classes, category_ids)
    return {**record, **lists, "annotations": [*kept, *reversed(pasted)]}


def _left_of(
    annotation: dict[str, Any], covered: np.ndarray, *, box_mode: Any
) -> dict[str, Any] | None:
    segmentation = annotation.get("segmentation")
    if annotation.get("iscrowd", 0) or not segmentation:
        return annotation
    height, width = covered.shape
    mask = mask_of(segmentation, height=height, width=width)
    visible = mask & ~covered
    if (visible == mask).all():
        return annotation
    return _with_mask(annotation, visible, box_mode=box_mode) if visible.any() else None


def _with_mask(annotation: Mapping[str, Any], mask: np.ndarray, *, box_mode: Any) -> dict[str, Any]:
    return {
        **annotation,
        "bbox": box_of(mask),
        "bbox_mode": box_mode,
        "segmentation": coded(mask),
    }


def _lists_after(
    record: Mapping[str, Any], classes: Sequence[int], category_ids: Mapping[int, int] | None
) -> dict[str, list[int]]:
    negatives, incomplete = FEDERATED_KEYS
    if record.get(negatives) is None:
        return {}
    present = {one["category_id"] for one in record.get("annotations", ())}
    ids = {c: c if category_ids is None else category_ids[c] for c in classes}
    listed = list(record.get(incomplete) or ())
    known = {*record[negatives], *listed, *(i for c, i in ids.items() if c in present)}
    return {
        negatives: [i for i in record[negatives] if i not in ids.values()],
        incomplete: [*listed, *(i for i in ids.values() if i not in known)],
    }
