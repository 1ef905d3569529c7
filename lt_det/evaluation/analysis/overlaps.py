"""Overlap of detections with objects: of boxes, of masks, of the edges of masks.

Shape shorthand: P pairs of a detection and an object, N detections.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pycocotools.mask as mask_utils

from lt_det.evaluation.detections import Detections

if TYPE_CHECKING:
    from lt_det.evaluation.analysis.objects import Objects

# A mask's edge is this share of the image's diagonal wide: Cheng et al., "Boundary IoU", CVPR 2021,
# https://arxiv.org/abs/2103.16562, section 4.
_EDGE = 0.02
# Pairs of boxes that are compared at once: they stay near to the processor.
_PAIRS_AT_ONCE = 2**15


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
    of_masks = objects.masks.boxes_and_areas() if iou_type == "segm" else None
    wanted = np.flatnonzero(~objects.ignored)
    wanted, ends_wanted = _by_image(objects.images[wanted], wanted, len(objects.image_ids))
    rows = np.flatnonzero(areas > 0)
    images = objects.truth.rows_of(detections)[0][rows]
    rows, ends = _by_image(images, rows, len(objects.image_ids))
    ours = _Sides.of(boxes[rows], areas[rows])
    theirs = _Sides.of(objects.boxes[wanted])
    if of_masks is not None:  # two masks have no more in common than their boxes
        theirs = _Sides.of(of_masks[0][wanted], of_masks[1][wanted])
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for some, number, other_number in _alike(np.diff(ends), np.diff(ends_wanted)):
        one = ends[some][:, None] + np.arange(number)
        other = ends_wanted[some][:, None] + np.arange(other_number)
        common, total = ours.common_and_total(theirs, one, other)
        near = common >= total * (lowest / (1 + lowest) * (1 - 1e-9))
        image, place, row = np.nonzero(near)
        common, total = common[near], total[near]
        # Of masks it is no overlap yet, and may divide by 0: boxes of thin masks share more than
        # the masks' areas.
        with np.errstate(divide="ignore"):
            shares = common / (total - common)
        parts.append((rows[one[image, row]], wanted[other[image, place]], shares))
    rows, places, overlaps = (np.concatenate(column) for column in zip(*parts))
    if of_masks is not None:
        overlaps = pair_overlaps(detections, objects, rows, places)
    enough = np.flatnonzero(overlaps >= lowest)
    enough = enough[np.argsort(rows[enough], kind="stable")]
    return rows[enough], places[enough], overlaps[enough]


def _by_image(
    images: np.ndarray, rows: np.ndarray, num_images: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows by image, in their order, and ``(I + 1,)`` where each image begins."""
    order = np.argsort(images, kind="stable")
    return rows[order], np.searchsorted(images[order], np.arange(num_images + 1))


def _alike(numbers: np.ndarray, others: np.ndarray) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield images, some at a time, that have the same two numbers; and these, above 0.

    Args:
        numbers: ``(I,)``.
        others: ``(I,)``.
    """
    images = np.flatnonzero((numbers > 0) & (others > 0))
    images = images[np.lexsort((others[images], numbers[images]))]
    changes = np.diff(numbers[images]).astype(bool) | np.diff(others[images]).astype(bool)
    for group in np.split(images, np.flatnonzero(changes) + 1) if len(images) else ():
        number, other = int(numbers[group[0]]), int(others[group[0]])
        step = max(_PAIRS_AT_ONCE // (number * other), 1)
        for begin in range(0, len(group), step):
            yield group[begin : begin + step], number, other


@dataclass(frozen=True)
class _Sides:
    """Boxes by their sides, each ``(N,)`` float64, and areas of them or of their masks."""

    left: np.ndarray
    top: np.ndarray
    right: np.ndarray
    bottom: np.ndarray
    areas: np.ndarray

    @classmethod
    def of(cls, boxes: np.ndarray, areas: np.ndarray | None = None) -> _Sides:
        """Return the sides of ``(N, 4)`` XYWH boxes; without areas those of the boxes."""
        x, y, w, h = np.ascontiguousarray(boxes.T)
        return cls(x, y, x + w, y + h, w * h if areas is None else areas)

    def common_and_total(
        self, others: _Sides, rows: np.ndarray, places: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(i, M, N)`` area that boxes have in common, and sum of their areas.

        Args:
            others: other boxes.
            rows: ``(i, N)`` of the one.
            places: ``(i, M)`` of the others.
        """

        def pair(name: str) -> tuple[np.ndarray, np.ndarray]:
            one, other = getattr(self, name)[rows], getattr(others, name)[places]
            return one[:, None], other[:, :, None]

        width = np.minimum(*pair("right"))
        width -= np.maximum(*pair("left"))
        height = np.minimum(*pair("bottom"))
        height -= np.maximum(*pair("top"))
        common = np.maximum(width, 0.0, out=width)
        common *= np.maximum(height, 0.0, out=height)
        return common, np.add(*pair("areas"))


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
