"""Detection and instance segmentation: many objects in an image, and a background."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch.retinanet import RetinaNet

from lt_det.tasks.named_image_mapper import NamedImageMapper
from lt_det.tasks.task import Task


class Detection(Task):
    """Detection, with Detectron2's own loaders and evaluators."""

    has_background = True
    one_class_an_image = False

    @classmethod
    def from_config(cls, cfg: Any) -> Detection:
        """Read DATASETS, NUM_CLASSES of the model and LT_DET.CLASS_STATS."""
        name = cfg.MODEL.META_ARCHITECTURE
        model = META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else None
        # A function may be registered as well.
        is_retinanet = isinstance(model, type) and issubclass(model, RetinaNet)
        node = cfg.LT_DET.CLASS_STATS
        return cls(
            training_sets=tuple(cfg.DATASETS.TRAIN),
            test_sets=tuple(cfg.DATASETS.TEST),
            counted_sets=tuple(node.DATASETS) or tuple(cfg.DATASETS.TRAIN),
            num_classes_key=(
                "MODEL.RETINANET.NUM_CLASSES" if is_retinanet else "MODEL.ROI_HEADS.NUM_CLASSES"
            ),
            configured_classes=(
                cfg.MODEL.RETINANET.NUM_CLASSES if is_retinanet else cfg.MODEL.ROI_HEADS.NUM_CLASSES
            ),
            unit=node.UNIT,
            count_source=node.SOURCE,
            rare_max=node.RARE_MAX,
            common_max=node.COMMON_MAX,
        )

    @staticmethod
    def build_mapper(cfg: Any, *, is_train: bool) -> Callable[[Any], Any]:
        """Return Detectron2's mapper of the config, which names the file of an unreadable image."""
        return NamedImageMapper(cfg, is_train)

    @staticmethod
    def build_feature_keys(cfg: Any) -> list:  # noqa: ARG004
        """Return no keys: MODEL and INPUT say it all."""
        return []
