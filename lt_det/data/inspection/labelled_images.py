"""Inspection of images to classify, in class folders or csv files: all findings, and counts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lt_det.data.images.lists import find_splits
from lt_det.data.inspection.findings import Finding, has_error, sorted_by_harm
from lt_det.data.inspection.image_copies import copy_findings
from lt_det.data.inspection.labelled_files import LabelledSet, read_labelled_set
from lt_det.data.inspection.labelled_splits import class_findings, split_findings
from lt_det.data.inspection.sources import redundant_sources, size_findings, source_findings
from lt_det.data.stats.class_stats import ClassStats


@dataclass(frozen=True)
class ImageOutlook:
    """Classes that a training on images sees.

    Attributes:
        train: counts of the training images; an image is an instance, too.
        val: number of validation images of each class, matched by name; None without any.
    """

    train: ClassStats
    val: tuple[int, ...] | None

    def offsets(self) -> tuple[float, float, float]:
        """Return what the prior adds to the logits of the rarest and most frequent class.

        In nats, against the mean over the classes, as Balanced Softmax adds it in the training;
        then how many times more images the most frequent class has.
        """
        logs = np.log(self.train.counts("image"))
        logs -= logs.mean()
        return float(logs.min()), float(logs.max()), float(np.exp(logs.max() - logs.min()))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a json."""
        lowest, highest, ratio = self.offsets()
        stats = self.train
        return {
            "classes": [
                {
                    "name": name,
                    "group": stats.frequency_groups[k],
                    "train_images": stats.image_counts[k],
                    "val_images": None if self.val is None else self.val[k],
                }
                for k, name in enumerate(stats.class_names)
            ],
            "rare_max": stats.rare_max,
            "common_max": stats.common_max,
            "imbalance": ratio,
            "prior_offsets": [lowest, highest],
        }


@dataclass(frozen=True)
class ImageInspection:
    """Result of :func:`inspect_images`.

    Attributes:
        findings: the worst first.
        outlook: classes that a training sees; None if there is none.
        sets: one for each folder or csv and split.
    """

    findings: list[Finding]
    outlook: ImageOutlook | None
    sets: list[LabelledSet]

    @property
    def is_usable(self) -> bool:
        """Whether training would go right."""
        return not has_error(self.findings)


def inspect_images(
    train: Sequence[str],
    val: Sequence[str] = (),
    *,
    quick: bool = False,
    limits: tuple[int, int] = (19, 100),
    splits: Sequence[str] | None = None,
) -> ImageInspection:
    """Return all that is wrong with images to classify before a training, and their counts.

    Args:
        train: folders of class folders, or csv files, trained on. An only one without ``val`` may
            hold both splits.
        val: the same, evaluated on.
        quick: read headers and ends of images only; copies of a file are then not found.
        limits: most images of a few-shot, and of a medium-shot class.
        splits: one for each of ``train`` and then of ``val``; None finds them.
    """
    findings: list[Finding] = []
    sources = [(path, True) for path in train] + [(path, False) for path in val]
    found_splits = list(splits or [""] * len(sources))
    if splits is None and len(train) == 1 and not val and os.path.exists(train[0]):
        both = _found_splits(train[0])
        if all(both):
            sources, found_splits = [(train[0], True), (train[0], False)], list(both)
    sets = []
    for (path, is_train), split in zip(sources, found_splits):
        one, found = read_labelled_set(path, split, train=is_train, quick=quick)
        sets.append(one)
        findings += found
        findings += class_findings(one.source, one.class_names, one.counts(), train=is_train)
    training = [one for one in sets if one.train]
    outlook = _outlook(training, [one for one in sets if not one.train], limits)
    if outlook is not None:
        for one in sets:
            if not one.train and len(one.labels):
                counts = dict(zip(one.class_names, one.counts().tolist()))
                findings += split_findings(one.source, outlook.train, counts)
    redundant = redundant_sources(train, val)
    findings += source_findings(train, val, redundant)
    others = [one for number, one in enumerate(sets) if number not in redundant]
    findings += size_findings([(one.source, one.train, len(one.paths)) for one in others])
    findings += copy_findings(
        [(one.source, one.train, one.paths, one.labels, one.class_names) for one in others],
        content=not quick,
    )
    return ImageInspection(sorted_by_harm(findings), outlook, sets)


def _found_splits(path: str) -> tuple[str, str]:
    try:
        return find_splits(path)
    except (ValueError, OSError):
        return "", ""  # said when it is read


def _outlook(
    train: Sequence[LabelledSet], val: Sequence[LabelledSet], limits: tuple[int, int]
) -> ImageOutlook | None:
    names = list(dict.fromkeys(name for one in train for name in one.class_names))
    counts: Counter[str] = Counter()
    for one in train:
        counts.update(dict(zip(one.class_names, one.counts().tolist())))
    if not sum(counts.values()):
        return None
    numbers = tuple(counts[name] for name in names)
    stats = ClassStats("train", tuple(names), numbers, numbers, sum(numbers), "annotations",
                       rare_max=limits[0], common_max=limits[1])  # fmt: skip
    totals: Counter[str] = Counter()
    for one in val:
        totals.update(dict(zip(one.class_names, one.counts().tolist())))
    return ImageOutlook(stats, tuple(totals[name] for name in names) if val else None)
