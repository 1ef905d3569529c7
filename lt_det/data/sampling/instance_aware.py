"""Weigh images by how few images and instances their classes have: IRFS and E-IRFS.

Both take the geometric mean of two frequencies of class c: ``f_img`` = images with it over images,
``f_box`` = its instances over all instances. The latter sum to 1 over the classes and the former do
not, so that the same threshold t repeats more than LVIS's repeat factors do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.records.stored_records import StoredRecords
from lt_det.data.sampling.samplers import rarest_class_weights
from lt_det.data.stats.class_stats import annotations_of


def class_instance_counts(
    dataset_dicts: Sequence[Mapping[str, Any]], *, num_classes: int
) -> np.ndarray:
    """Return ``(K,)`` float64 numbers of instances of each class, crowds left out.

    Args:
        dataset_dicts: in Detectron2's format.
        num_classes: K.
    """
    if isinstance(dataset_dicts, StoredRecords):
        _, stored, crowds = dataset_dicts.instances()
        return np.bincount(stored[~crowds], minlength=num_classes).astype(np.float64)
    classes = [
        int(annotation["category_id"])
        for record in dataset_dicts
        for annotation in annotations_of(record)
        if not annotation.get("iscrowd", 0)
    ]
    return np.bincount(np.array(classes, np.int64), minlength=num_classes).astype(np.float64)


def irfs_class_factors(
    image_counts: np.ndarray, instance_counts: np.ndarray, *, num_images: int, threshold: float
) -> np.ndarray:
    """Return ``(K,)`` instance-aware repeat factors, ``max(1, sqrt(t / sqrt(f_img f_box)))``.

    Yaman et al., "Instance-Aware Repeat Factor Sampling for Long-Tailed Object Detection",
    arXiv:2305.08069. A class without instances has the factor 1. Threshold 0 gives 1 throughout.

    Args:
        image_counts: ``(K,)`` images with each class.
        instance_counts: ``(K,)`` instances of each class.
        num_images: of the list that is drawn from, images without objects included.
        threshold: t, above which the mean frequency repeats nothing.

    Raises:
        ValueError: if the threshold is negative or not finite.
    """
    ratios = _ratios(
        image_counts / num_images,
        instance_counts / max(instance_counts.sum(), 1),
        threshold=threshold,
    )
    return np.maximum(1.0, ratios)


def eirfs_class_logs(
    image_counts: np.ndarray,
    instance_counts: np.ndarray,
    *,
    num_images: int,
    threshold: float,
    alpha: float,
    as_released: bool,
) -> np.ndarray:
    """Return ``(K,)`` logarithms of E-IRFS's class weights, ``alpha sqrt(t / sqrt(f_img f_box))``.

    "Exponentially Weighted Instance-Aware Repeat Factor Sampling", arXiv:2503.21893: the
    exponential of IRFS's factor before it is raised to 1. As logarithms, since the weight of the
    rarest class overflows at large t. The release, futurians/E-IRFS, differs from the paper:
    there ``f_img`` is over the sum of all image counts and not over the images, and each class
    starts with one instance more. alpha 0 gives equal weights.

    Args:
        image_counts: as in :func:`irfs_class_factors`.
        instance_counts: as there.
        num_images: as there.
        threshold: t, 1e-4 in the release.
        alpha: 2 in the release.
        as_released: as the code does, not the paper.

    Raises:
        ValueError: if threshold or alpha is negative or not finite.
    """
    if not 0.0 <= alpha < np.inf:
        raise ValueError(f"alpha must be at least 0, got {alpha}")
    if as_released:
        images, boxes = image_counts / image_counts.sum(), instance_counts + 1
        boxes = boxes / boxes.sum()
    else:
        images, boxes = image_counts / num_images, instance_counts / max(instance_counts.sum(), 1)
    return alpha * _ratios(images, boxes, threshold=threshold)


def eirfs_image_weights(
    image_classes: Sequence[Sequence[int]], class_logs: np.ndarray
) -> np.ndarray:
    """Return ``(N,)`` float64 weights that images are drawn in proportion to, the largest 1.

    The weight of an image is that of its largest class, and 1 without a class, before all are
    divided by the largest. The paper repeats images so many times an epoch; here they are drawn
    with replacement in proportion, as in the release: the factors reach 1e5 on LVIS.

    Args:
        image_classes: class ids of each of N images.
        class_logs: ``(K,)`` of :func:`eirfs_class_logs`.
    """
    logs = rarest_class_weights(image_classes, class_logs)  # 0, weight 1, without a class
    return np.exp(logs - logs.max(initial=0.0))


def _ratios(images: np.ndarray, boxes: np.ndarray, *, threshold: float) -> np.ndarray:
    if not 0.0 <= threshold < np.inf:
        raise ValueError(f"threshold must be at least 0, got {threshold}")
    mean = np.sqrt(images * boxes)
    return np.sqrt(np.divide(threshold, mean, out=np.zeros_like(mean), where=mean > 0))
