"""Kinds of errors, and what AP50 would be without each.

Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020,
https://arxiv.org/abs/2008.08115, section 2. On a federated data set only detections that can be
judged are errors: one of a class that nobody looked for in its image is none.

Shape shorthand: N judged detections, M objects, P pairs that overlap, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lt_det.evaluation.analysis.matches import Judged
from lt_det.evaluation.analysis.objects import Objects
from lt_det.evaluation.analysis.plain_ap import plain_aps

#: In the order in which a detection is tried for them; "missed" are objects.
KINDS = ("localisation", "classification", "duplicate", "background", "both", "missed")
#: Least IoU with an object that a detection finds, and that it has anything to do with.
FOUND, NEAR = 0.5, 0.1


@dataclass(frozen=True)
class Errors:
    """Errors at IoU 0.5.

    Attributes:
        counts: kind -> ``(K,)`` int64 false detections of a class; of "missed", objects that
            nothing finds and that no detection of a kind above is near to.
        gains: kind -> ``(K,)`` float64 points of AP50 that a class would gain without the kind;
            NaN without an object.
    """

    counts: dict[str, np.ndarray]
    gains: dict[str, np.ndarray]


def find_errors(
    objects: Objects, judged: Judged, pairs: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> Errors:
    """Return the errors of a data set.

    Args:
        objects: ground truth.
        judged: detections.
        pairs: ``(P,)`` rows of the detections given to :func:`judge`, rows of the objects, and
            IoU, at least :data:`NEAR`.
    """
    matches, num_classes = judged.matches, len(objects.category_ids)
    false = matches.counted[:, 0] & ~matches.found[:, 0]
    used = np.zeros(len(objects.classes), dtype=bool)
    used[judged.taken[matches.found[:, 0]]] = True
    kinds, targets = _kinds(objects, judged, pairs, false, used)
    missed = ~objects.ignored & ~used
    missed[targets[targets >= 0]] = False
    counts = {
        kind: np.bincount(matches.classes[kinds == number], minlength=num_classes)
        for number, kind in enumerate(KINDS[:-1])
    }
    counts["missed"] = np.bincount(objects.classes[missed], minlength=num_classes)
    return Errors(counts, _gains(objects, judged, kinds, targets, used, missed))


def _kinds(
    objects: Objects,
    judged: Judged,
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    false: np.ndarray,
    used: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(N,)`` number of the kind, -1 for none, and the object that it is about, or -1."""
    rows, places, overlaps = pairs
    position = np.full(int(max(rows.max(initial=-1), judged.rows.max(initial=-1))) + 1, -1)
    position[judged.rows] = np.arange(len(judged.rows))
    of_pairs = position[rows]
    kept = np.flatnonzero(of_pairs >= 0)
    kept = kept[false[of_pairs[kept]]]
    # What is written last stays: of the pairs of a detection the one that overlaps most, of equal
    # ones the first object.
    kept = kept[np.lexsort((-places[kept], overlaps[kept]))]
    of_pairs, places, overlaps = of_pairs[kept], places[kept], overlaps[kept]
    same = objects.classes[places] == judged.matches.classes[of_pairs]

    def most(which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        overlap, place = np.zeros(len(false)), np.full(len(false), -1)
        overlap[of_pairs[which]], place[of_pairs[which]] = overlaps[which], places[which]
        return overlap, place

    of_same, at_same = most(same)
    of_other, at_other = most(~same)
    of_used = most(same & used[places])[0]
    near = np.maximum(of_same, of_other) > NEAR
    conditions = [(of_same >= NEAR) & (of_same < FOUND), of_other >= FOUND, of_used >= FOUND, ~near]
    kinds = np.select(conditions, [0, 1, 2, 3], default=4)
    kinds[~false] = -1
    targets = np.select([kinds == 0, kinds == 1], [at_same, at_other], default=-1)
    return kinds, targets


def _gains(
    objects: Objects,
    judged: Judged,
    kinds: np.ndarray,
    targets: np.ndarray,
    used: np.ndarray,
    missed: np.ndarray,
) -> dict[str, np.ndarray]:
    matches, num_classes = judged.matches, len(objects.category_ids)
    numbers = np.bincount(objects.classes[~objects.ignored], minlength=num_classes)
    found, counted = matches.found[:, 0], matches.counted[:, 0]
    base = _aps50(matches.classes, matches.scores, found, counted, numbers)
    gains = {}
    for number, kind in enumerate(KINDS[:-1]):
        of_kind = kinds == number
        classes, right, kept = matches.classes.copy(), found.copy(), counted & ~of_kind
        mended = _mended(matches.scores, targets, used)
        mended = mended[of_kind[mended]]
        right[mended], kept[mended] = True, True
        classes[mended] = objects.classes[targets[mended]]
        gains[kind] = _aps50(classes, matches.scores, right, kept, numbers) - base
    left = numbers - np.bincount(objects.classes[missed], minlength=num_classes)
    without = _aps50(matches.classes, matches.scores, found, counted, left)
    # A class of which everything is missed gains all.
    gains["missed"] = np.where((numbers > 0) & (left == 0), 100.0, without) - base
    return gains


def _mended(scores: np.ndarray, targets: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Return the rows of the detections that would find something: the best for each object."""
    rows = np.flatnonzero(targets >= 0)
    rows = rows[~used[targets[rows]]]
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    return rows[np.unique(targets[rows], return_index=True)[1]]


def _aps50(
    classes: np.ndarray,
    scores: np.ndarray,
    found: np.ndarray,
    counted: np.ndarray,
    numbers: np.ndarray,
) -> np.ndarray:
    """Return ``(K,)`` AP50 in percent, NaN without an object."""
    rows = np.flatnonzero(counted)
    if (np.diff(classes[rows]) < 0).any():  # else they come by class, best first
        rows = rows[np.lexsort((-scores[rows], classes[rows]))]
    right = found[rows, None]
    return plain_aps(classes[rows], right, np.ones_like(right), numbers)[0]
