"""Calibration: whether a score is the share of detections that are right.

Expected and maximum calibration error: Naeini et al., "Obtaining Well Calibrated Probabilities
Using Bayesian Binning", AAAI 2015.
"""

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
    rows = np.flatnonzero(members[matches.classes] & matches.counted[:, 0])
    scores = matches.scores[rows].astype(np.float64)
    if len(rows) and not (scores.min() >= 0 and scores.max() <= 1):
        # Logits, for example: there is nothing to compare with a share.
        return {"error": None, "largest_error": None, "detections": len(rows), "bins": []}
    of_bins = np.minimum((scores * bins).astype(np.int64), bins - 1)
    numbers = np.bincount(of_bins, minlength=bins)
    there = np.maximum(numbers, 1)
    score = np.bincount(of_bins, weights=scores, minlength=bins) / there
    precision = np.bincount(of_bins, weights=matches.found[rows, 0], minlength=bins) / there
    gaps = np.abs(score - precision)
    return {
        "error": 100 * float(gaps @ numbers / len(rows)) if len(rows) else None,
        "largest_error": 100 * float(gaps.max()) if len(rows) else None,
        "detections": len(rows),
        "bins": [
            {
                "from": index / bins,
                "to": (index + 1) / bins,
                "score": float(score[index]) if number else None,
                "precision": 100 * float(precision[index]) if number else None,
                "detections": number,
            }
            for index, number in enumerate(numbers.tolist())
        ],
    }
