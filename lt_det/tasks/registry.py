"""Find the task of a config."""

from __future__ import annotations

from typing import Any

from detectron2.modeling import META_ARCH_REGISTRY

from lt_det.data.stats.class_stats import ClassStats
from lt_det.tasks.detection import Detection
from lt_det.tasks.task import Task


def build_task(cfg: Any) -> Task:
    """Return the task of the configured model.

    A model class says by its attribute ``task`` which one it is for; without it,
    :class:`~lt_det.tasks.detection.Detection`.

    Raises:
        ValueError: as ``from_config`` of the task.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    model = META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else None
    task: type[Task] = getattr(model, "task", Detection)
    return task.from_config(cfg)


def build_class_stats(cfg: Any) -> ClassStats:
    """Return the class statistics of the config's training set; see :meth:`Task.class_stats`."""
    return build_task(cfg).class_stats()
