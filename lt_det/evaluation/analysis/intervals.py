"""Intervals of AP and AP50 of each group, from resampled images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lt_det.evaluation.analysis.matches import Matches
from lt_det.evaluation.analysis.objects import ObjectPlaces
from lt_det.evaluation.analysis.plain_ap import plain_aps
from lt_det.evaluation.analysis.resampling import drawn_images, interval
from lt_det.evaluation.analysis.weighted_ap import group_means, threshold_aps

#: Metric -> IoU thresholds that it averages, from the lowest.
METRICS = {"AP": 10, "AP50": 1}
#: Group -> name of its mean in :func:`group_means`.
GROUP_MEANS = {"all": "AP", "r": "APr", "c": "APc", "f": "APf"}


def drawn_means(
    objects: ObjectPlaces,
    matches: Matches,
    groups: Sequence[str | None],
    *,
    resamples: int,
    seed: int,
    places: int | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Return metric -> group -> ``(1 + B,)`` values: on all images, then on each resample.

    Args:
        objects: ground truth.
        matches: judged detections.
        groups: "r", "c" or "f" of each class.
        resamples: B.
        seed: of the draws.
        places: of :func:`threshold_aps`.
    """
    num_images, num_classes = len(objects.image_ids), len(objects.category_ids)
    numbers = np.bincount(objects.classes[~objects.ignored], minlength=num_classes)
    aps = plain_aps(matches.classes, matches.found, matches.counted, numbers)[:, None]
    if resamples and num_images:
        weights = drawn_images(num_images, resamples, seed=seed)
        drawn = threshold_aps(objects, matches, weights, places=places)
        aps = np.concatenate([aps, drawn], axis=1)
    values = {}
    for metric, number in METRICS.items():
        means = group_means(aps[:number].mean(axis=0), groups)
        values[metric] = {group: means[name] for group, name in GROUP_MEANS.items()}
    return values


def intervals(
    drawn: dict[str, dict[str, np.ndarray]], *, confidence: float
) -> dict[str, dict[str, list[float] | None]]:
    """Return metric -> group -> [low, high] in points around the value; None without resamples.

    The draws are moved so that their mean is the value: AP of resamples is too high, since the
    same image comes several times.
    """
    return {
        metric: {group: _interval(values, confidence) for group, values in of_groups.items()}
        for metric, of_groups in drawn.items()
    }


def _interval(values: np.ndarray, confidence: float) -> list[float] | None:
    if len(values) < 2 or not np.isfinite(values[0]):
        return None
    return list(interval(values[1:], confidence, around=float(values[0])))
