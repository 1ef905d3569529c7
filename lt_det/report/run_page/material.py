"""Hold what the parts of the page share: methods, classes in one order, figures of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lt_det.data.stats.class_stats import ClassStats
from lt_det.data.stats.frequency_groups import GROUP_NAMES, SHOT_NAMES
from lt_det.report.run_page.methods import Method
from lt_det.report.run_page.run_folder import RunFolder
from lt_det.report.run_page.training_facts import TrainingFacts
from lt_det.report.runs import TASK_NAMES


@dataclass(frozen=True)
class ShownClass:
    """A class of the page.

    Attributes:
        name: of the class.
        group: "r", "c", "f", or "" where nothing says it.
        train_images: training images with it; None where nothing says it.
        objects: evaluated objects of it, None where nothing says it.
    """

    name: str
    group: str
    train_images: int | None
    objects: int | None


@dataclass(frozen=True)
class Material:
    """What the page is made of.

    Attributes:
        methods: with an evaluation of ``task``, the first is the one that others are compared to.
        all_methods: also those without, results of ``balance``.
        task: "segm", "bbox" or "classification"; None where no run was evaluated.
        classes: of all methods, by falling training images.
        figures: ``(M, K)`` AP or accuracy of the methods, NaN where undefined.
        facts: folder of a run -> its training.
        stats: class counts of the training, None without.
    """

    methods: Sequence[Method]
    all_methods: Sequence[Method]
    task: str | None
    classes: Sequence[ShownClass]
    figures: np.ndarray
    facts: Mapping[str, TrainingFacts]
    stats: ClassStats | None

    @property
    def what(self) -> str:
        """Name of the figure of a class: "mask AP"."""
        if self.task in (None, "classification"):
            return "accuracy"
        return f"{TASK_NAMES[self.task or 'bbox']} AP"

    @property
    def metrics(self) -> dict[str, str]:
        """Metric of the summaries -> group key: AP to all, APr to r; top1 to all, few to r."""
        if self.task == "classification":
            return {"top1": "all", **{SHOT_NAMES[g]: g for g in "rcf"}}
        return {"AP": "all", "APr": "r", "APc": "c", "APf": "f"}

    @property
    def counts(self) -> np.ndarray:
        """``(K,)`` training images, NaN where unknown, at least 0.7 for a logarithm."""
        known = [np.nan if c.train_images is None else c.train_images for c in self.classes]
        return np.maximum(np.array(known, dtype=float), 0.7)

    @property
    def groups(self) -> list[str]:
        """Groups that classes are in, rare first."""
        there = {one.group for one in self.classes}
        return [group for group in GROUP_NAMES if group in there]


def gather(
    methods: Sequence[Method], facts: Mapping[str, TrainingFacts], *, task: str | None = None
) -> Material:
    """Return the material of a page.

    Args:
        methods: in the order of the page.
        facts: folder -> what is known of the training.
        task: that the page is about; None takes masks before boxes, what all methods have.

    Raises:
        ValueError: if no run was evaluated on ``task``.
    """
    shared = [t for t in ("segm", "bbox", "classification") if _all_have(methods, t)]
    some = [t for t in ("segm", "bbox", "classification") if any(m.evaluations(t) for m in methods)]
    if task is not None and task not in some:
        raise ValueError(f"no run has results of {task}, but of {', '.join(some) or 'nothing'}")
    chosen = task or next(iter(shared or some), None)
    evaluated = [m for m in methods if chosen is not None and m.evaluations(chosen)]
    stats = next(
        (facts[r.folder].stats for m in methods for r in m.runs if facts[r.folder].stats), None
    )
    classes = _classes(evaluated, chosen, stats) if chosen else []
    figures = np.full((len(evaluated), len(classes)), np.nan)
    for row, method in enumerate(evaluated):
        values = method.of_class(chosen or "")
        figures[row] = [values.get(one.name, np.nan) for one in classes]
    return Material(evaluated, list(methods), chosen, classes, figures, facts, stats)


def first_run(method: Method, task: str | None) -> RunFolder:
    """Return the first run of a method that was evaluated on the task."""
    return next(run for run in method.runs if task is None or task in run.results)


def _all_have(methods: Sequence[Method], task: str) -> bool:
    evaluated = [m for m in methods if any(run.results for run in m.runs)]
    return bool(evaluated) and all(m.evaluations(task) for m in evaluated)


def _classes(methods: Sequence[Method], task: str, stats: ClassStats | None) -> list[ShownClass]:
    counts: dict[str, int] = {}
    groups: dict[str, str] = {}
    if stats is not None:
        counts = dict(zip(stats.class_names, stats.image_counts))
        groups = dict(zip(stats.class_names, stats.frequency_groups))
    found: dict[str, ShownClass] = {}
    for method in methods:
        for evaluation in method.evaluations(task):
            for record in evaluation.categories:
                name = record["name"]
                if name in found:
                    continue
                images = counts.get(name, _whole(record.get("num_train_images")))
                group = record.get("group") or groups.get(name, "")
                objects = _whole(record.get("num_gt_instances", record.get("num_test_images")))
                found[name] = ShownClass(name, _GROUP_KEYS.get(group, ""), images, objects)
    return sorted(found.values(), key=lambda c: (-(c.train_images or 0), -(c.objects or 0), c.name))


# Classification says "few" where detection says "r".
_GROUP_KEYS = {
    **{key: key for key in GROUP_NAMES},
    **{name: key for key, name in SHOT_NAMES.items()},
}


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and np.isfinite(value) else None
