"""Outlook on a training: its classes, their groups, and what repeating rare images does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from lt_det.data.annotations.checks import box_is_valid, is_trained_on
from lt_det.data.annotations.json_file import contiguous_ids
from lt_det.data.annotations.mask_checks import mask_problem
from lt_det.data.stats.class_prior import counts_with_background
from lt_det.data.stats.class_stats import ClassStats, merge_class_stats
from lt_det.data.stats.json_stats import count_checked_json


@dataclass(frozen=True)
class Repeats:
    """What repeat factor sampling with a threshold does (Gupta et al., CVPR 2019, section 5.1).

    Attributes:
        threshold: t, share of images; classes in a smaller share are repeated.
        images: annotated images, drawn once an epoch without it.
        draws: expected draws of an epoch with it.
        classes: number of classes whose images are repeated.
        largest: largest factor of a class that has images, at least 1.
        suggestion: a threshold that repeats something, if this one does not.
    """

    threshold: float
    images: int
    draws: float
    classes: int
    largest: float
    suggestion: float | None = None


@dataclass(frozen=True)
class Outlook:
    """What a training on these files sees.

    Attributes:
        train: counts of all training files together.
        val: counts of all files of evaluation together; in the order of ``train``'s classes.
        factors: K repeat factors of the classes; 1 for those without an image.
        repeats: of images.
    """

    train: ClassStats
    val: tuple[tuple[int, int], ...] | None
    factors: tuple[float, ...]
    repeats: Repeats

    def offsets(self) -> tuple[float, float, float]:
        """Return the offsets of logits of the rarest and most frequent class, and beta's ratio.

        In nats, ``log`` of the prior against the background's, as Balanced Softmax adds them in
        the training; then how many times more images the most frequent class has.
        """
        counts = counts_with_background(self.train.counts("image"))
        logs = np.log(counts[:-1] / counts[-1])
        ratio = counts[:-1].max() / counts[:-1].min()
        return float(logs.min()), float(logs.max()), float(ratio)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a json."""
        lowest, highest, ratio = self.offsets()
        return {
            "classes": [
                {
                    "name": name,
                    "group": group,
                    "train_images": images,
                    "train_instances": instances,
                    "val_images": None if self.val is None else self.val[k][0],
                    "val_instances": None if self.val is None else self.val[k][1],
                    "repeat_factor": self.factors[k],
                }
                for k, (name, group, images, instances) in enumerate(
                    zip(
                        self.train.class_names,
                        self.train.frequency_groups,
                        self.train.image_counts,
                        self.train.instance_counts,
                    )
                )
            ],
            "rare_max": self.train.rare_max,
            "common_max": self.train.common_max,
            "repeats": asdict(self.repeats),
            "imbalance": ratio,
            "prior_offsets": [lowest, highest],
        }


def outlook_of(
    train: Sequence[Mapping[str, Any]],
    val: Sequence[Mapping[str, Any]],
    *,
    threshold: float = 0.001,
    limits: tuple[int, int] = (10, 100),
) -> Outlook | None:
    """Return what a training sees of mended jsons; None if it cannot be said.

    Annotations that no training can use are left out.

    Args:
        train: contents of the training jsons, mended; of the same classes.
        val: contents of those that are evaluated.
        threshold: of repeat factor sampling, > 0.
        limits: most images of a rare, and of a common class.
    """
    parts = [_usable(content) for content in train]
    try:
        stats = merge_class_stats([_counted(part, name="train") for part in parts])
        stats = replace(stats, rare_max=limits[0], common_max=limits[1])
        counts = [_counted(_usable(content), name="val") for content in val]
    except (ValueError, KeyError, TypeError):
        return None  # no classes, or no images, that could be counted; findings say why
    factors, repeats = _repeats(parts, stats, threshold)
    return Outlook(stats, _by_name(counts, stats.class_names) if val else None, factors, repeats)


def _counted(content: Mapping[str, Any], *, name: str) -> ClassStats:
    return count_checked_json(content, name=name, count_source="annotations")[0]


def _repeats(
    parts: Sequence[Mapping[str, Any]], stats: ClassStats, threshold: float
) -> tuple[tuple[float, ...], Repeats]:
    counts = np.array(stats.image_counts, dtype=np.float64)
    shares = counts / max(stats.num_images, 1)
    with np.errstate(divide="ignore"):
        factors = np.maximum(1.0, np.sqrt(threshold / shares))
    factors[counts == 0] = 1.0
    draws = 0.0
    for part in parts:
        ids = contiguous_ids(part["categories"])
        of_image: dict[Any, float] = {}
        for one in part["annotations"]:
            image = one["image_id"]
            factor = float(factors[ids[one["category_id"]]])
            of_image[image] = max(of_image.get(image, 1.0), factor)
        draws += math.fsum(of_image.values())
    repeated = int((factors > 1).sum())
    suggestion = None
    if not repeated and counts.any():
        # Where about half of the classes are repeated.
        suggestion = float(np.median(shares[counts > 0]))
    largest = float(factors.max(initial=1.0))
    return tuple(map(float, factors)), Repeats(
        threshold, stats.num_images, draws, repeated, largest, suggestion
    )


def _usable(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a json without the annotations that no training can use."""
    images = {image.get("id") for image in content["images"]}
    categories = {category.get("id") for category in content["categories"]}
    annotations = [
        one
        for one in content["annotations"]
        if one.get("image_id") in images
        and one.get("category_id") in categories
        and box_is_valid(one.get("bbox"))
        and mask_problem(one.get("segmentation")) is None
        and is_trained_on(one)
    ]
    return {**content, "annotations": annotations}


def _by_name(
    stats: Sequence[ClassStats], class_names: Sequence[str]
) -> tuple[tuple[int, int], ...]:
    """Return images and instances of each class, summed over files, matched by name."""
    totals = {name: [0, 0] for name in class_names}
    for one in stats:
        for name, images, instances in zip(one.class_names, one.image_counts, one.instance_counts):
            if name in totals:
                totals[name][0] += images
                totals[name][1] += instances
    return tuple((images, instances) for images, instances in totals.values())
