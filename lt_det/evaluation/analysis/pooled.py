"""AP-Fixed and AP-Pool: AP without a limit for each image, and with all classes in one curve.

Dave et al., "Evaluating Large-Vocabulary Object Detectors: The Devil is in the Details", 2021,
https://arxiv.org/abs/2102.01066. With a limit for each image a class competes with all others for
places, so that AP of a class also says how its scores compare; AP-Fixed takes that away, AP-Pool
measures it by itself.
"""

from __future__ import annotations

import numpy as np

from lt_det.evaluation.analysis.matches import Matches
from lt_det.evaluation.analysis.plain_ap import plain_aps
from lt_det.evaluation.detections import Detections
from lt_det.evaluation.lvis.columns import occurring, places_of

#: Detections of a class that count, over the data set. The paper's, for LVIS validation.
PER_CLASS = 10_000


def best_of_classes(detections: Detections, *, per_class: int = PER_CLASS) -> np.ndarray:
    """Return ``(N,)`` bool: whether a detection is among the best of its class.

    Args:
        detections: N; of equal scores the earlier is taken first.
        per_class: how many are.
    """
    kept = np.ones(len(detections), dtype=bool)
    classes = places_of(occurring(detections.category_ids), detections.category_ids)
    many = np.flatnonzero((np.bincount(classes) > per_class)[classes])
    kept[many] = False
    order = many[np.lexsort((-detections.scores[many], classes[many]))]
    starts = np.searchsorted(classes[order], classes[order])
    kept[order[np.arange(len(order)) - starts < per_class]] = True
    return kept


def best_first(matches: Matches) -> np.ndarray:
    """Return ``(N,)`` rows of the detections of all classes together, best first."""
    return np.argsort(-matches.scores, kind="stable")


def pooled_ap(matches: Matches, order: np.ndarray, members: np.ndarray, num_objects: int) -> float:
    """Return AP in percent of the detections of several classes taken as one; NaN without objects.

    Args:
        matches: judged detections.
        order: of :func:`best_first`.
        members: ``(K,)`` bool, the classes.
        num_objects: of these classes, those to ignore left out.
    """
    if not num_objects:
        return float("nan")
    rows = order[members[matches.classes[order]]]
    one = np.zeros(len(rows), dtype=np.int64)
    found, counted = matches.found[rows], matches.counted[rows]
    return float(plain_aps(one, found, counted, np.array([num_objects])).mean())
