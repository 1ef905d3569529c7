"""Calibration: whether a score is the share of detections that are right."""

from __future__ import annotations

from typing import Any

import numpy as np

from lt_det.evaluation.analysis.matches import Matches


def calibration(matches: Matches, members: np.ndarray, *, bins: int) -> dict[str, Any]:
    """Return the calibration error of the detections of some classes, at IoU 0.5.

    Detections that are neither right nor wrong are left out.

    Args:
        matches: judged detections, scores from 0 to 1.
        members: ``(K,)`` bool, the classes.
        bins: of equal width, from 0 to 1.

    Returns:
        "error" (mean over the detections of how far the scores of their bin are from its
        precision) and "largest_error" (of a bin), in points, None without detections;
        "detections"; and "bins", each with "from", "to", "score" (mean), "precision" (percent)
        and "detections", None where a bin is empty.
    """
    from hotcoco import metrics  # an optional dependency, as for the metric itself

    rows = np.flatnonzero(members[matches.classes] & matches.counted[:, 0])
    scores = matches.scores[rows].astype(np.float64)
    if len(rows) and not (scores.min() >= 0 and scores.max() <= 1):
        # Logits, for example: there is nothing to compare with a share.
        return {"error": None, "largest_error": None, "detections": len(rows), "bins": []}
    found = matches.found[rows, 0]
    curve = metrics.calibration_curve(scores, found, bins)
    error, largest = metrics.calibration_error(scores, found, bins)
    return {
        "error": 100 * error if len(rows) else None,
        "largest_error": 100 * largest if len(rows) else None,
        "detections": len(rows),
        "bins": [
            {
                "from": one["bin_lower"],
                "to": one["bin_upper"],
                "score": one["avg_confidence"] if one["count"] else None,
                "precision": 100 * one["avg_accuracy"] if one["count"] else None,
                "detections": one["count"],
            }
            for one in curve
        ],
    }
