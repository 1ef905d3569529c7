"""Match detections with ground truth once, so that AP of any images follows without matching.

The matching is that of LVIS (lvis-api): in each image and category detections, best first, take the
object that they overlap most, of those that are left, at each of ten thresholds. So what a limit on
the lowest scores leaves out changes nothing for the rest.

Shape shorthand: N detections, T = 10 thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lt_det.evaluation.analysis.matching import OverlapsOfPairs, matched
from lt_det.evaluation.analysis.objects import Objects
from lt_det.evaluation.analysis.overlaps import pair_overlaps
from lt_det.evaluation.detections import Detections


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
        return self.take(self.scores > score_threshold)

    def take(self, rows: np.ndarray) -> Matches:
        """Return the matches at ``rows``, bool or rising int."""
        return Matches(*(column[rows] for column in vars(self).values()))


@dataclass(frozen=True)
class Judged:
    """Detections that can be judged, and what they find.

    Attributes:
        matches: N of them.
        rows: ``(N,)`` int64 rows of the detections that were given.
        taken: ``(N,)`` int64 row of the object that each takes at IoU 0.5; -1 for none.
    """

    matches: Matches
    rows: np.ndarray
    taken: np.ndarray


def match(objects: Objects, detections: Detections, *, max_dets: int) -> Matches:
    """Return the judged detections, each with what it finds.

    Args:
        objects: ground truth.
        detections: boxes, of known images and categories.
        max_dets: detections counted for each image.
    """
    return judge(objects, detections.top_scoring(max_dets), iou_type="bbox").matches


def judge(
    objects: Objects,
    detections: Detections,
    *,
    iou_type: str,
    overlaps: OverlapsOfPairs | None = None,
) -> Judged:
    """Return what can be judged of all detections given.

    Args:
        objects: ground truth.
        detections: of known images and categories.
        iou_type: "bbox" or "segm"; what has no area by it finds nothing and is left out.
        overlaps: how detections and objects are compared; None is IoU of the boxes or masks.
    """
    boxes, areas = detections.geometry(iou_type)
    images, classes = objects.truth.rows_of(detections)
    rows = np.flatnonzero(objects.truth.judged_rows(images, classes) & (areas > 0))
    images, classes, scores = images[rows], classes[rows], detections.scores[rows]
    few = len(objects.category_ids) < 2**15
    classes = classes.astype(np.int16 if few else np.int32)  # NumPy sorts 16 bits by counting
    # Stable: of equal scores of a class the lower image comes first, then the earlier detection.
    order = _by_image_best_first(images, scores)
    order = order[np.argsort(classes[order], kind="stable")]
    rows, images, classes, scores = rows[order], images[order], classes[order], scores[order]
    if overlaps is None and iou_type == "segm":
        overlaps = pair_overlaps
    found, ignored, taken = matched(
        objects, images, classes, boxes[rows], detections.take(rows) if overlaps else None, overlaps
    )
    pairs = images * len(objects.category_ids) + classes.astype(np.int64)
    # What finds nothing where objects may not all be annotated is not false.
    excused = np.isin(pairs, objects.open_pairs)[:, None] & ~found
    final = np.argsort(-scores, kind="stable")
    final = final[np.argsort(classes[final], kind="stable")]
    matches = Matches(
        classes[final].astype(np.int32),
        images[final].astype(np.int32),
        scores[final],
        (found & ~ignored)[final],
        ~(ignored | excused)[final],
    )
    return Judged(matches, rows[final], taken[final])


def _by_image_best_first(images: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return ``(N,)`` the stable order by rising image, then falling score."""
    same, falls = images[1:] == images[:-1], scores[1:] <= scores[:-1]
    if ((images[1:] > images[:-1]) | (same & falls)).all():  # as detectors give them
        return np.arange(len(images))
    return np.lexsort((-scores, images))
