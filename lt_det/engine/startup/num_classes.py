"""NUM_CLASSES of detectors: from the training set, where a config does not set it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from lt_det.data.annotations.datasets import class_names_of
from lt_det.data.images.datasets import EVALUATOR_TYPE

#: Nodes of MODEL with a NUM_CLASSES of objects.
_NODES = ("ROI_HEADS", "RETINANET", "FCOS")
_UNSET = -1


def mark_num_classes(cfg: Any) -> None:
    """Mark every NUM_CLASSES of objects as not set, before files and options are merged."""
    for node in _nodes(cfg):
        node.NUM_CLASSES = _UNSET


def forget_num_classes(cfg: Any) -> None:
    """Give what is still marked Detectron2's default."""
    defaults = get_cfg().MODEL
    for name in _NODES:
        if name in cfg.MODEL and cfg.MODEL[name].get("NUM_CLASSES") == _UNSET:
            cfg.MODEL[name].NUM_CLASSES = defaults[name].NUM_CLASSES


def set_num_classes(cfg: Any) -> None:
    """Give what is still marked the number of classes of the training set.

    Where that is not on this machine, or is no set of objects, it is Detectron2's default.

    Args:
        cfg: config, its data sets registered.
    """
    marked = [node for node in _nodes(cfg) if node.NUM_CLASSES == _UNSET]
    number = _classes_of_data(cfg) if marked else None
    if number is not None:
        for node in marked:
            node.NUM_CLASSES = number
    forget_num_classes(cfg)


def _nodes(cfg: Any) -> Iterator[Any]:
    for name in _NODES:
        if name in cfg.MODEL and "NUM_CLASSES" in cfg.MODEL[name]:
            yield cfg.MODEL[name]


def _classes_of_data(cfg: Any) -> int | None:
    for name in (*cfg.DATASETS.TRAIN, *cfg.LT_DET.CLASS_STATS.DATASETS):
        # Images to classify are not read for it: detectors do not train on them.
        if name not in DatasetCatalog.list() or (
            MetadataCatalog.get(name).get("evaluator_type") == EVALUATOR_TYPE
        ):
            continue
        try:
            return len(class_names_of(name))
        except (OSError, ValueError, KeyError):
            continue  # what is wrong with the data is said when they are read for the training
    return None
