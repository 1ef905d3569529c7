"""Overlap of detections with objects: of boxes, of masks, of the edges of masks.

Shape shorthand: P pairs of a detection and an object, N detections.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pycocotools.mask as mask_utils

from lt_det.evaluation.detections import Detections

if TYPE_CHECKING:
    from lt_det.evaluation.analysis.objects import Objects

# A mask's edge is this share of the image's diagonal wide: Cheng et al., "Boundary IoU", CVPR 2021,
# https://arxiv.org/abs/2103.16562, section 4.
_EDGE = 0.02


def box_overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the IoU of XYWH boxes, computed in the metric's order of operations.

    Args:
        one: ``(..., 4)`` float64.
        other: likewise; the two are broadcast.
    """
    (x, y, w, h), (u, v, a, b) = (np.moveaxis(box, -1, 0) for box in (one, other))
    common = _common(x, y, w, h, u, v, a, b)
    return common / (w * h + a * b - common)


def pair_overlaps(
    detections: Detections, objects: Objects, rows: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """Return ``(P,)`` float64 IoU of masks.

    Args:
        detections: with masks.
        objects: of a ground truth with masks.
        rows: ``(P,)`` of the detections.
        places: ``(P,)`` of the objects, in the same images.
    """
    overlaps = np.zeros(len(rows))
    for part, found, wanted in _by_object(detections, objects, rows, places):
        overlaps[part] = mask_utils.iou(found, [wanted], [0])[:, 0]
    return overlaps


def boundary_overlaps(
    detections: Detections, objects: Objects, rows: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """Return ``(P,)`` float64, the smaller of the IoU of masks and the IoU of their edges.

    Below the metric's lowest threshold, 0.5, the IoU of the masks is returned alone.

    Args:
        detections: with masks.
        objects: of a ground truth with masks.
        rows: ``(P,)`` of the detections.
        places: ``(P,)`` of the objects, in the same images.
    """
    overlaps = pair_overlaps(detections, objects, rows, places)
    near = np.flatnonzero(overlaps >= 0.5)
    edges: dict[int, Any] = {}
    for part, found, wanted in _by_object(detections, objects, rows[near], places[near]):
        edge = edge_of(wanted)
        for place, mask in zip(near[part].tolist(), found):
            row = int(rows[place])
            if row not in edges:
                edges[row] = edge_of(mask)
            of_edges = mask_utils.iou([edges[row]], [edge], [0])[0, 0]
            overlaps[place] = min(overlaps[place], of_edges)
    return overlaps


def encoded(segmentation: Any, height: int, width: int) -> Any:
    """Return the run-length code of an annotation's polygons or counts, as the metric reads it."""
    if isinstance(segmentation, list):
        return mask_utils.merge(mask_utils.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return mask_utils.frPyObjects(segmentation, height, width)
    return segmentation


def edge_of(mask: Any) -> Any:
    """Return the run-length code of a mask's edge: its pixels within a distance of the outside.

    The distance is 2 % of the image's diagonal, counted in steps to the eight neighbours; beyond
    the image is outside.

    Args:
        mask: run-length code.
    """
    height, width = mask["size"]
    distance = max(int(round(_EDGE * float(np.hypot(height, width)))), 1)
    pixels = mask_utils.decode(mask)
    (up,), (left,) = (np.flatnonzero(pixels.any(axis=a))[:1] for a in (1, 0))
    (down,), (right,) = (np.flatnonzero(pixels.any(axis=a))[-1:] + 1 for a in (1, 0))
    part = pixels[up:down, left:right]
    edge = np.zeros_like(pixels)
    edge[up:down, left:right] = part & ~_eroded(part, distance)
    return mask_utils.encode(np.asfortranarray(edge))


def _eroded(pixels: np.ndarray, distance: int) -> np.ndarray:
    """Return the pixels whose square of side ``2 * distance + 1`` lies in the mask."""
    side = 2 * distance + 1
    sums = np.pad(pixels.astype(np.int32), distance)
    for axis in (0, 1):
        sums = np.insert(np.cumsum(sums, axis=axis), 0, 0, axis=axis)
        upper, lower = (np.moveaxis(sums, axis, 0) for _ in range(2))
        sums = np.moveaxis(upper[side:] - lower[:-side], 0, axis)
    return (sums == side * side).astype(pixels.dtype)


def touching(
    detections: Detections,
    objects: Objects,
    *,
    iou_type: str,
    lowest: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs of a detection and an object, of any class, that overlap.

    Args:
        detections: N, of known images; what has no area overlaps with nothing.
        objects: ground truth; those to ignore are left out.
        iou_type: "bbox" or "segm".
        lowest: least IoU, above 0.

    Returns:
        ``(P,)`` rows of the detections, rows of the objects, both int64, and IoU, float64.
    """
    boxes, areas = detections.geometry(iou_type)
    images = np.searchsorted(objects.image_ids, detections.image_ids)
    wanted = np.flatnonzero(~objects.ignored)
    wanted = wanted[np.argsort(objects.images[wanted], kind="stable")]
    starts = np.searchsorted(objects.images[wanted], images)
    numbers = np.searchsorted(objects.images[wanted], images, side="right") - starts
    of_objects, masks_areas = objects.boxes, None
    if iou_type == "segm":
        of_objects, masks_areas = objects.masks.boxes_and_areas()
    parts = []
    for some in _parts(np.where(areas > 0, numbers, 0)):
        rows = np.repeat(some, numbers[some])
        first = np.cumsum(numbers[some]) - numbers[some]
        places = wanted[np.arange(len(rows)) - np.repeat(first, numbers[some]) + starts[rows]]
        one, other = boxes[rows].T, of_objects[places].T
        common = _common(*one, *other)
        total = one[2] * one[3] + other[2] * other[3]
        if masks_areas is not None:  # two masks have no more in common than their boxes
            total = areas[rows] + masks_areas[places]
        near = np.flatnonzero(common * (1 + lowest) >= lowest * total * (1 - 1e-9))
        rows, places = rows[near], places[near]
        if masks_areas is not None:
            overlaps = pair_overlaps(detections, objects, rows, places)
        else:
            overlaps = common[near] / (total[near] - common[near])
        enough = overlaps >= lowest
        parts.append((rows[enough], places[enough], overlaps[enough]))
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    rows, places, overlaps = (np.concatenate(column) for column in zip(*parts))
    return rows, places, overlaps


def _parts(numbers: np.ndarray, *, most: int = 2**18) -> Iterator[np.ndarray]:
    """Yield the rows with a number, in parts whose numbers add up to about ``most``."""
    rows = np.flatnonzero(numbers)
    if len(rows):
        ends = np.cumsum(numbers[rows])
        yield from np.split(rows, np.flatnonzero(np.diff(ends // most)) + 1)


def _by_object(
    detections: Detections, objects: Objects, rows: np.ndarray, places: np.ndarray
) -> Iterator[tuple[np.ndarray, list[Any], Any]]:
    """Yield for each object its pairs, their detections' masks and its own."""
    masks = detections.masks
    if masks is None or not len(rows):
        return
    order = np.argsort(places, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(places[order])) + 1):
        yield part, [masks[row] for row in rows[part]], objects.masks[places[part[0]]]


def _common(*sides: np.ndarray) -> np.ndarray:
    x, y, w, h, u, v, a, b = sides
    width = np.minimum(x + w, u + a) - np.maximum(x, u)
    height = np.minimum(y + h, v + b) - np.maximum(y, v)
    return np.where((width > 0) & (height > 0), width * height, 0.0)
