"""AP of each class on weighted images: on a part of them, or on resamples of a bootstrap.

An image of weight 2 counts as if it were there twice, one of weight 0 as if it were not.

Shape shorthand: B weightings, I images, K classes, T = 10 thresholds, n detections of a class, m of
them that find something.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from lt_det.evaluation.analysis.curves import Curves, blocks_of_classes
from lt_det.evaluation.analysis.matches import Matches
from lt_det.evaluation.analysis.objects import ObjectPlaces

#: Metric -> group of the classes that it is the mean of; "" is all.
AP_METRICS: Mapping[str, str] = {"AP": "", "APr": "r", "APc": "c", "APf": "f"}


def class_aps(
    objects: ObjectPlaces,
    matches: Matches,
    weights: np.ndarray,
    *,
    classes: Sequence[int] | None = None,
) -> np.ndarray:
    """Return ``(B, K)`` AP in percent, mean over the IoU thresholds; as :func:`threshold_aps`."""
    return threshold_aps(objects, matches, weights, classes=classes).mean(axis=0)


def threshold_aps(
    objects: ObjectPlaces,
    matches: Matches,
    weights: np.ndarray,
    *,
    classes: Sequence[int] | None = None,
    places: int | None = None,
) -> np.ndarray:
    """Return ``(T, B, K)`` AP in percent, NaN where the images of a weighting have no object.

    Args:
        objects: ground truth.
        matches: judged detections.
        weights: ``(B, I)`` whole numbers >= 0.
        classes: rows of those to compute, the others are NaN; None is all.
        places: of a curve at which its precision is looked at, for a class that finds more; AP
            comes out a little low then. None looks everywhere.
    """
    num_classes = len(objects.category_ids)
    of_images = np.ascontiguousarray(np.asarray(weights, dtype=np.float32).T)  # (I, B)
    to_find = _to_find(objects, of_images)  # (K, B)
    if classes is not None:
        to_find[np.setdiff1d(np.arange(num_classes), classes)] = 0
    aps = np.zeros((num_classes, matches.found.shape[1], len(weights)))
    curves = Curves.of(matches, blocks_of_classes(matches, to_find), places=places)
    for levels, own, some, areas in curves.areas(
        torch.from_numpy(of_images), np.maximum(to_find, 1)
    ):
        aps[own, levels, some] = 100 * areas
    return np.where(to_find[:, None] > 0, aps, np.nan).transpose(1, 2, 0)


def _to_find(objects: ObjectPlaces, weights: np.ndarray) -> np.ndarray:
    """Return ``(K, B)`` float64 weight of the objects of each class."""
    kept = np.flatnonzero(~objects.ignored)
    kept = kept[np.argsort(objects.classes[kept], kind="stable")]
    sums = np.zeros((len(objects.category_ids), weights.shape[1]))
    classes, starts = np.unique(objects.classes[kept], return_index=True)
    for k, images in zip(classes.tolist(), np.split(objects.images[kept], starts[1:])):
        sums[k] = weights[images].sum(axis=0, dtype=np.float64)
    return sums


def group_means(
    aps: np.ndarray,
    groups: Sequence[str | None],
    *,
    metrics: Mapping[str, str] = AP_METRICS,
) -> dict[str, np.ndarray]:
    """Return metric -> ``(B,)``, NaN where no class of the group is defined.

    Args:
        aps: ``(B, K)`` of :func:`class_aps`, or other figures of classes.
        groups: "r", "c" or "f" of each class.
        metrics: names, as :data:`AP_METRICS`.
    """
    means = {}
    for name, wanted in metrics.items():
        part = aps[:, [not wanted or group == wanted for group in groups]]
        number = (~np.isnan(part)).sum(axis=1)
        total = np.nansum(part, axis=1)
        means[name] = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    return means
