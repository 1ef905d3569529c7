"""Tasks: detection and image classification, and what differs between them."""

import lt_det.detectron2_required  # noqa: F401  # isort: skip

from lt_det.tasks.detection import Detection
from lt_det.tasks.image_classification import ImageClassification
from lt_det.tasks.registry import build_class_stats, build_task
from lt_det.tasks.task import Task

__all__ = ["Detection", "ImageClassification", "Task", "build_class_stats", "build_task"]
