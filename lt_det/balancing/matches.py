"""Match detections with ground truth once, so that AP of any images follows without matching.

The matching is that of LVIS (lvis-api): in each image and category detections, best first, take the
object that they overlap most, of those that are left, at each of ten thresholds.

Shape shorthand: N detections, M objects, I images, K classes, T = 10 thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lt_det.evaluation.detections import Detections
from lt_det.evaluation.lvis.ground_truth import LVISGroundTruth

#: The metric's.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
# Pairs of an image and a category that are matched at once.
_PAIRS_AT_ONCE = 4096


@dataclass(frozen=True)
class Objects:
    """Ground truth as arrays.

    Attributes:
        image_ids: ``(I,)`` int64, rising; a row stands for the image from here on.
        category_ids: ``(K,)`` int64, rising; likewise.
        images: ``(M,)`` int64 rows.
        classes: ``(M,)`` int64 rows.
        boxes: ``(M, 4)`` float64 XYWH in px.
        ignored: ``(M,)`` bool, objects that need not be found.
        open_pairs: pairs ``image row * K + class row`` that are not annotated exhaustively, sorted.
        truth: where it is from.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    images: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    ignored: np.ndarray
    open_pairs: np.ndarray
    truth: LVISGroundTruth

    @classmethod
    def of(cls, truth: LVISGroundTruth) -> Objects:
        """Return the arrays of a ground truth."""
        image_ids = np.array(sorted(truth.image_ids), dtype=np.int64)
        category_ids = np.array(truth.category_ids, dtype=np.int64)
        annotations = truth.annotations
        # Of equal pairs the order stays that of the json, which decides between equal overlaps.
        images = np.searchsorted(image_ids, [a["image_id"] for a in annotations])
        classes = np.searchsorted(category_ids, [a["category_id"] for a in annotations])
        known = set(truth.category_ids)
        open_pairs = [
            np.searchsorted(image_ids, image["id"]) * len(category_ids)
            + np.searchsorted(category_ids, category)
            for image in truth.images
            for category in image["not_exhaustive_category_ids"]
            if category in known
        ]
        return cls(
            image_ids,
            category_ids,
            images.astype(np.int64),
            classes.astype(np.int64),
            np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4),
            np.array([a["ignore"] for a in annotations], dtype=bool),
            np.array(sorted(open_pairs), dtype=np.int64),
            truth,
        )

    def images_by_class(self) -> list[np.ndarray]:
        """Return for each class the rows of the images with an object of it to find."""
        kept = ~self.ignored
        pairs = np.unique(self.classes[kept] * len(self.image_ids) + self.images[kept])
        classes, images = np.divmod(pairs, len(self.image_ids))
        return np.split(images, np.searchsorted(classes, np.arange(1, len(self.category_ids))))


@dataclass(frozen=True)
class Matches:
    """Judged detections of a data set: by class, best first.

    Attributes:
        classes: ``(N,)`` int32 rows, rising.
        images: ``(N,)`` int32 rows.
        scores: ``(N,)`` float32 or float64.
        found: ``(N, T)`` bool, whether an object was found.
        counted: ``(N, T)`` bool, whether it counts: as found, or as false.
    """

    classes: np.ndarray
    images: np.ndarray
    scores: np.ndarray
    found: np.ndarray
    counted: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def joined(cls, parts: Sequence[Matches]) -> Matches:
        """Return the matches of several sets of different images as one."""
        columns = zip(*(vars(part).values() for part in parts))
        classes, images, scores, *masks = (np.concatenate(column) for column in columns)
        order = np.lexsort((images, -scores, classes))
        return cls(*(column[order] for column in (classes, images, scores, *masks)))

    def above(self, score_threshold: float) -> Matches:
        """Return the matches with a higher threshold of the score."""
        rows = self.scores > score_threshold
        return Matches(*(column[rows] for column in vars(self).values()))


def match(objects: Objects, detections: Detections, *, max_dets: int) -> Matches:
    """Return the judged detections, each with what it finds.

    Args:
        objects: ground truth.
        detections: boxes, of known images and categories.
        max_dets: detections counted for each image.
    """
    detections = detections.top_scoring(max_dets)
    detections = detections.take(np.flatnonzero(objects.truth.is_judged(detections)))
    boxes, areas = detections.geometry("bbox")
    rows = np.flatnonzero(areas > 0)
    detections, boxes = detections.take(rows), boxes[rows]
    images = np.searchsorted(objects.image_ids, detections.image_ids)
    classes = np.searchsorted(objects.category_ids, detections.category_ids)
    scores = detections.scores
    # Stable: of equal scores of a class the lower image comes first, then the earlier detection.
    order = np.lexsort((-scores, images, classes))
    images, classes, scores, boxes = images[order], classes[order], scores[order], boxes[order]
    found, ignored = _matched(objects, images, classes, boxes)
    pairs = images * len(objects.category_ids) + classes
    # What finds nothing where objects may not all be annotated is not false.
    excused = np.isin(pairs, objects.open_pairs)[:, None] & ~found
    final = np.lexsort((-scores, classes))
    return Matches(
        classes[final].astype(np.int32),
        images[final].astype(np.int32),
        scores[final],
        (found & ~ignored)[final],
        ~(ignored | excused)[final],
    )


def _matched(
    objects: Objects, images: np.ndarray, classes: np.ndarray, boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(N, T)`` whether an object was found, and whether that is one to ignore.

    Detections come by class, image and falling score.
    """
    shape = (len(images), len(IOU_THRESHOLDS))
    found, ignored = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    num_images = len(objects.image_ids)
    of_objects = objects.classes * num_images + objects.images
    # Objects to ignore come last in a pair, so that others are taken first.
    order = np.lexsort((objects.ignored, of_objects))
    pairs, starts, sizes = np.unique(of_objects[order], return_index=True, return_counts=True)
    of_detections = classes * num_images + images
    first: Any = np.searchsorted(of_detections, pairs)
    numbers: Any = np.searchsorted(of_detections, pairs, side="right") - first
    both = np.flatnonzero(numbers)
    # Alike pairs together: what is padded is small.
    both = both[np.lexsort((numbers[both], sizes[both]))]
    for begin in range(0, len(both), _PAIRS_AT_ONCE):
        some = both[begin : begin + _PAIRS_AT_ONCE]
        _match_pairs(
            objects, boxes, order, starts[some], sizes[some], first[some], numbers[some],
            found, ignored,
        )  # fmt: skip
    return found, ignored


def _match_pairs(
    objects: Objects,
    boxes: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    sizes: np.ndarray,
    first: np.ndarray,
    numbers: np.ndarray,
    found: np.ndarray,
    ignored: np.ndarray,
) -> None:
    """Match the detections of some pairs, all pairs at a time, and write down what they find."""
    width = int(sizes.max())
    places = np.minimum(starts[:, None] + np.arange(width), len(order) - 1)
    there = np.arange(width) < sizes[:, None]  # (P, G)
    of_pair = objects.boxes[order[places]]  # (P, G, 4)
    to_ignore = objects.ignored[order[places]] & there
    free = np.repeat(there[:, None], len(IOU_THRESHOLDS), axis=1)  # (P, T, G)
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]
    for rank in range(int(numbers.max())):
        some = np.flatnonzero(numbers > rank)
        rows = first[some] + rank
        overlap = _overlaps(boxes[rows][:, None], of_pair[some])[:, None]  # (p, 1, G)
        usable = free[some] & (overlap >= thresholds)
        # One to find is taken before one to ignore; of equal overlaps the last.
        value = np.where(usable, overlap + 2.0 * ~to_ignore[some][:, None], -1.0)
        best = width - 1 - value[..., ::-1].argmax(axis=2)  # (p, T)
        hit = np.take_along_axis(usable, best[..., None], axis=2)[..., 0]
        found[rows] = hit
        ignored[rows] = hit & np.take_along_axis(to_ignore[some], best, axis=1)
        p, t = np.nonzero(hit)
        free[some[p], t, best[p, t]] = False


def _overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the IoU of XYWH boxes, computed in the metric's order of operations."""
    (x, y, w, h), (u, v, a, b) = (np.moveaxis(box, -1, 0) for box in (one, other))
    width = np.minimum(x + w, u + a) - np.maximum(x, u)
    height = np.minimum(y + h, v + b) - np.maximum(y, v)
    common = np.where((width > 0) & (height > 0), width * height, 0.0)
    return common / (w * h + a * b - common)
