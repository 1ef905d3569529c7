"""Estimates of what a training on data needs: memory of its records, and the time of an epoch."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.stats.class_stats import ClassStats
from lt_det.projects.facts import facts_of_jsons
from lt_det.projects.input_size import image_size, longest_side
from lt_det.projects.machine import Machine, Model, Work

_KEPT = ("bbox", "category_id", "iscrowd", "segmentation")  # in a record, of an annotation
#: Images whose records are pickled to know what all take.
_SOME = 1000


def detection_estimates(
    train: Sequence[Mapping[str, Any]],
    val: Sequence[Mapping[str, Any]],
    stats: ClassStats,
    machine: Machine,
    *,
    draws: float,
    masks: bool | None = None,
) -> list[str]:
    """Return sentences about a training on COCO- or LVIS-format jsons, estimates all of them.

    Args:
        train: contents of the training jsons, which can be trained on.
        val: contents of those that are evaluated.
        stats: of the training jsons.
        machine: that trains.
        draws: of an epoch.
        masks: whether they are trained; None where all objects have one.
    """
    facts = facts_of_jsons(train, val, stats=stats, train_files=(), val_files=())
    has_masks = facts.masks in ("polygon", "bitmask") if masks is None else masks
    work: Work = "segmentation" if has_masks else "detection"
    model: Model = "r50" if machine.device == "cuda" else "lite0"
    size = image_size(facts, machine)
    width = longest_side(size, facts.aspect)
    megapixels = size * size * min(facts.aspect, width / size) / 1e6
    seconds = machine.seconds_per_image(model, work, megapixels)
    network = "a ResNet-50" if model == "r50" else "the small network that new-project takes"
    found = [
        f"Estimates for {machine}: an epoch takes {_time(draws * seconds)} with {network} "
        f"{'with' if has_masks else 'without'} masks at {size} pixels"
        + (f", an evaluation {_time(facts.val_images * seconds * 0.4)}." if val else "."),
        f"The records take {_size(_record_bytes(train))} of memory, once for all processes.",
    ]
    if machine.device == "cuda":
        found.append(
            f"A batch of 2 such images on a GPU takes about {machine.gib(2, megapixels):.1f} GiB "
            f"of its {machine.gpu_gib:.0f}."
        )
    return found


def classification_estimates(
    images: int, val_images: int, short_side: float, machine: Machine
) -> list[str]:
    """Return a sentence about a training on images to classify, an estimate.

    Args:
        images: trained on.
        val_images: evaluated on.
        short_side: of the images, median, in pixels.
        machine: that trains.
    """
    model: Model = "r50" if machine.device == "cuda" else "lite0"
    side = min(224.0, max(32.0, short_side))
    seconds = machine.seconds_per_image(model, "classification", side * side / 1e6)
    network = "a ResNet-50" if model == "r50" else "EfficientNet-Lite0"
    evaluation = f", an evaluation {_time(0.4 * val_images * seconds)}" if val_images else ""
    return [
        f"Estimates for {machine}: an epoch takes {_time(images * seconds)} with {network} at "
        f"{side:.0f} pixels{evaluation}."
    ]


def _record_bytes(contents: Sequence[Mapping[str, Any]]) -> float:
    """Return what the records take as they are kept, estimated from some of them."""
    total = 0.0
    for content in contents:
        annotations = content["annotations"]
        rows = np.linspace(0, len(annotations) - 1, min(_SOME, len(annotations))).astype(int)
        some = sum(len(pickle.dumps(_kept(annotations[row]), protocol=4)) for row in rows.tolist())
        total += some * len(annotations) / max(len(rows), 1) + 200.0 * len(content["images"])
    return total


def _kept(annotation: Mapping[str, Any]) -> dict[str, Any]:
    return {key: annotation[key] for key in _KEPT if key in annotation}


def _time(seconds: float) -> str:
    for unit, length in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * length:
            return f"about {seconds / length:.2g} {unit}"
    return f"about {max(seconds, 1.0):.2g} seconds"


def _size(number: float) -> str:
    return f"about {number / 2**30:.2g} GiB" if number > 2**29 else (
        f"about {max(number / 2**20, 1.0):.0f} MiB"
    )  # fmt: skip
