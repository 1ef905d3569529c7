"""Facts about a data set that a recipe is made of."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lt_det.data.annotations.checks import is_crowd, is_trained_on
from lt_det.data.annotations.lvis_format import FEDERATED_KEYS
from lt_det.data.stats.class_stats import ClassStats
from lt_det.data.stats.declared_counts import declared_counts

Masks = Literal["none", "some", "polygon", "bitmask"]


@dataclass(frozen=True)
class Files:
    """Where data are.

    Attributes:
        annotations: a json, a csv, or a folder of class folders.
        images: folder of the images of a json; "" otherwise.
        split: of a csv; "" otherwise.
    """

    annotations: str
    images: str = ""
    split: str = ""


@dataclass(frozen=True)
class DetectionFacts:
    """Objects in images.

    Attributes:
        train: files trained on.
        val: files evaluated on.
        stats: of the training files together.
        val_images: number of images to evaluate.
        masks: of the training annotations: "polygon"; "bitmask" if some are encoded; "some" if
            there are objects without one; "none".
        val_masks: of the validation annotations; "none" where there are none.
        short_side: median of the shorter side of the training images, in pixels.
        aspect: longer side over shorter one, at the 90th percentile.
        object_side: median of the square root of the area of the boxes, in pixels.
        federated: whether images list the classes that they were checked for.
        declares_more: whether categories declare more images than a training json holds.
    """

    train: tuple[Files, ...]
    val: tuple[Files, ...]
    stats: ClassStats
    val_images: int
    masks: Masks
    val_masks: Masks
    short_side: float
    aspect: float
    object_side: float
    federated: bool
    declares_more: bool = False


@dataclass(frozen=True)
class ClassificationFacts:
    """Images of one class each.

    Attributes:
        kind: of the files, "folder" or "csv".
        train: files trained on.
        val: files evaluated on; None holds out some of the training images.
        stats: of the training files.
        val_images: number of images to evaluate.
        short_side: median of the shorter side of some of the training images, in pixels.
    """

    kind: Literal["folder", "csv"]
    train: Files
    val: Files | None
    stats: ClassStats
    val_images: int
    short_side: float


def facts_of_jsons(
    train: Sequence[Mapping[str, Any]],
    val: Sequence[Mapping[str, Any]],
    *,
    stats: ClassStats,
    train_files: Sequence[Files],
    val_files: Sequence[Files],
) -> DetectionFacts:
    """Return the facts of COCO- or LVIS-format jsons whose images have sizes.

    Args:
        train: contents of the training jsons.
        val: contents of those that are evaluated.
        stats: of the training jsons.
        train_files: where they are.
        val_files: where the others are.
    """
    images = [image for content in train for image in content["images"]]
    sizes = np.array([[image["width"], image["height"]] for image in images], dtype=np.float64)
    boxes = np.array(
        [one["bbox"] for content in train for one in content["annotations"] if is_trained_on(one)],
        dtype=np.float64,
    ).reshape(-1, 4)
    return DetectionFacts(
        train=tuple(train_files),
        val=tuple(val_files),
        stats=stats,
        val_images=sum(len(content["images"]) for content in val),
        masks=masks_of(train),
        val_masks=masks_of(val),
        short_side=float(np.median(sizes.min(1))),
        aspect=float(np.quantile(sizes.max(1) / sizes.min(1).clip(1), 0.9)),
        object_side=float(np.median(np.sqrt(boxes[:, 2] * boxes[:, 3]))) if len(boxes) else 0.0,
        federated=any(image.get(key) for image in images for key in FEDERATED_KEYS),
        declares_more=any(map(_declares_more, train)),
    )


def _declares_more(content: Mapping[str, Any]) -> bool:
    declared = declared_counts(content["categories"], content["annotations"])
    return declared is not None and declared.verdict == "more"


def masks_of(contents: Sequence[Mapping[str, Any]]) -> Masks:
    """Return what kind of masks the annotations of jsons have that are no crowds."""
    masks = [
        one.get("segmentation")
        for content in contents
        for one in content["annotations"]
        if not is_crowd(one)
    ]
    if not any(masks):
        return "none"
    if not all(masks):
        return "some"
    return "bitmask" if any(isinstance(mask, dict) for mask in masks) else "polygon"


def relative_to(path: str, folder: str) -> str:
    """Return a path as seen from a folder; absolute where it is on another drive."""
    try:
        return os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
    except ValueError:  # of Windows
        return os.path.abspath(path)
