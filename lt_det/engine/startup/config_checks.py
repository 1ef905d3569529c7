"""Check a config for contradictions before anything is built."""

from __future__ import annotations

import logging
from typing import Any

import torch
from detectron2.utils import comm
from torch import nn

from lt_det.config import default_keys
from lt_det.config_errors import naming_keys
from lt_det.engine.meta.build import METHODS
from lt_det.engine.startup.number_bounds import check_bounds
from lt_det.engine.startup.output_folder import check_output_folder
from lt_det.losses import get_loss
from lt_det.losses.base_criterion import BaseCriterion
from lt_det.modeling.roi.mask_head import LongTailMaskHead
from lt_det.tasks import Task, build_task

logger = logging.getLogger(__name__)


def check_config(cfg: Any) -> None:
    """Raise for configs that contradict themselves or the machine.

    Raises:
        ValueError: names the keys and what to set.
    """
    check_keys_are_there(cfg)
    check_device(cfg)
    check_output_folder(cfg.OUTPUT_DIR)
    node = cfg.LT_DET
    _check_classifier(cfg)
    task = build_task(cfg)
    if node.META.ENABLED:
        _check_meta(cfg, task)
    if node.REGION_CACHE.ENABLED and not node.DECOUPLED:
        raise ValueError(
            "LT_DET.REGION_CACHE.ENABLED needs all below the classifier frozen: set "
            "LT_DET.DECOUPLED True"
        )
    check_bounds(cfg)
    ranks = comm.get_world_size()
    for key, value in (
        ("SOLVER.IMS_PER_BATCH", cfg.SOLVER.IMS_PER_BATCH),
        ("LT_DET.META.IMS_PER_BATCH", node.META.IMS_PER_BATCH),
    ):
        if value % ranks:
            raise ValueError(f"{key} {value} must be a multiple of the {ranks} processes")
    if not cfg.OUTPUT_DIR:
        raise ValueError('OUTPUT_DIR is "": set it to the folder that the results go to')
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty")
    _check_unit(cfg)
    _check_early_stopping(cfg)
    if cfg.SOLVER.AMP.ENABLED and str(cfg.MODEL.DEVICE).partition(":")[0] not in ("cuda", "cpu"):
        raise ValueError(
            "SOLVER.AMP.ENABLED is for MODEL.DEVICE cuda (float16) or cpu (bfloat16), got "
            f"{cfg.MODEL.DEVICE!r}"
        )


def check_keys_are_there(cfg: Any) -> None:
    """Raise for a config without the keys of this package.

    Raises:
        ValueError: says which function adds them.
    """
    if "LT_DET" not in cfg:
        raise ValueError(
            "cfg has no LT_DET: call lt_det.config.add_lt_det_config(cfg) right after get_cfg()"
        )


def check_device(cfg: Any) -> None:
    """Raise if MODEL.DEVICE is no device, or not on this machine.

    Raises:
        ValueError: says to set MODEL.DEVICE cpu.
    """
    try:
        torch.device(str(cfg.MODEL.DEVICE))
    except RuntimeError as error:
        raise ValueError(
            f"MODEL.DEVICE {cfg.MODEL.DEVICE!r} is none: expected such as cuda, cuda:1 or cpu"
        ) from error
    if str(cfg.MODEL.DEVICE).startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, but PyTorch finds no GPU on this machine: set "
            "MODEL.DEVICE cpu (at the end of the command line)"
        )


def _check_early_stopping(cfg: Any) -> None:
    if not cfg.LT_DET.EARLY_STOPPING:
        return
    if not cfg.LT_DET.BEST_CHECKPOINT:
        raise ValueError(
            f"LT_DET.EARLY_STOPPING {cfg.LT_DET.EARLY_STOPPING} needs to know which result must "
            "get better: set LT_DET.BEST_CHECKPOINT, such as bbox/AP"
        )
    if cfg.TEST.EVAL_PERIOD <= 0:
        raise ValueError(
            f"LT_DET.EARLY_STOPPING {cfg.LT_DET.EARLY_STOPPING} counts evaluations, and there is "
            "none before the end: set TEST.EVAL_PERIOD"
        )


def _check_unit(cfg: Any) -> None:
    for name in (cfg.LT_DET.LOSS, cfg.LT_DET.DEFER.LOSS):
        if not name or cfg.LT_DET.CLASS_STATS.UNIT != "instance":
            continue
        with naming_keys(loss="LT_DET.LOSS"):
            spec = get_loss(name)
        parameters = cfg.LT_DET.LOSS_PARAMS.get(name.upper(), {})
        needed = spec.bound_arguments(**{k.lower(): v for k, v in parameters.items()})
        if "num_images" in needed:
            raise ValueError(
                f"LT_DET.LOSS {name!r} needs the share of images with a class, which instances "
                "are not: set LT_DET.CLASS_STATS.UNIT image"
            )


def _check_classifier(cfg: Any) -> None:
    node = cfg.LT_DET
    if node.RESET_CLASSIFIER and not node.DECOUPLED:
        raise ValueError(
            "LT_DET.RESET_CLASSIFIER starts the classifier of a second stage anew: set LT_DET."
            "DECOUPLED True, or RESET_CLASSIFIER False"
        )
    if node.CLASSIFIER.NAME == "lws":
        if not node.DECOUPLED:
            raise ValueError(
                "LT_DET.CLASSIFIER.NAME 'lws' scales the frozen classifier of a first stage: set "
                "LT_DET.DECOUPLED True, and MODEL.WEIGHTS to a checkpoint with a linear one"
            )
        if node.RESET_CLASSIFIER:
            raise ValueError(
                "LT_DET.RESET_CLASSIFIER would make random what LT_DET.CLASSIFIER.NAME 'lws' "
                "scales and never trains: set it False"
            )
    if node.CLASSIFIER.DISALIGN:
        if not node.DECOUPLED or node.RESET_CLASSIFIER:
            raise ValueError(
                "LT_DET.CLASSIFIER.DISALIGN calibrates the frozen classifier of a first stage: set "
                "LT_DET.DECOUPLED True, LT_DET.RESET_CLASSIFIER False, and MODEL.WEIGHTS to its "
                "checkpoint"
            )
        if node.CLASSIFIER.NAME not in ("linear", "cosine"):
            raise ValueError(
                "LT_DET.CLASSIFIER.DISALIGN calibrates a linear or a cosine classifier, got "
                f"LT_DET.CLASSIFIER.NAME {node.CLASSIFIER.NAME!r}"
            )
    for loss in dict.fromkeys((node.LOSS, node.DEFER.LOSS)):
        if loss and get_loss(loss).wants_cosine and node.CLASSIFIER.NAME != "cosine":
            logger.warning(
                "LT_DET.LOSS %s has margins for a cosine classifier, LT_DET.CLASSIFIER.NAME is %r: "
                "its logits have no bounds that the margins could go with",
                loss,
                node.CLASSIFIER.NAME,
            )


def check_loss_is_used(cfg: Any, model: nn.Module) -> None:
    """Raise if the config chooses a loss and the model has Detectron2's own.

    Raises:
        ValueError: names the keys that would do nothing.
    """
    check_post_hoc_is_used(cfg, model)
    _check_mask_predictor_is_used(cfg, model)
    if any(isinstance(module, BaseCriterion) for module in model.modules()):
        return
    defaults = default_keys()
    keys = ["LOSS", "CLASS_WEIGHTS", "IMAGE_LISTS", "PRIOR", "CLASSIFIER"]
    if cfg.LT_DET.DEFER.LOSS or not cfg.LT_DET.DEFER.SAMPLER:  # a sampler is for any model
        keys.append("DEFER")
    changed = [f"LT_DET.{key}" for key in keys if cfg.LT_DET[key] != defaults[key]]
    if changed:
        raise ValueError(
            f"{' and '.join(changed)} would do nothing: {type(model).__name__} with "
            f"MODEL.ROI_HEADS.NAME {cfg.MODEL.ROI_HEADS.NAME!r} has a loss of its own. Set "
            "LT_DET.PATCH True to replace that alone, MODEL.ROI_HEADS.NAME to LongTailROIHeads, "
            "LongTailCascadeROIHeads or LongTailRes5ROIHeads, or MODEL.META_ARCHITECTURE to one "
            "of this package"
        )


def _check_mask_predictor_is_used(cfg: Any, model: nn.Module) -> None:
    """Raise if the config chooses a mask predictor and the model has no head that builds it."""
    node, head = cfg.LT_DET.MASK_PREDICTOR, cfg.MODEL.ROI_MASK_HEAD.NAME
    if node == default_keys().MASK_PREDICTOR:
        return
    if not any(isinstance(module, LongTailMaskHead) for module in model.modules()):
        raise ValueError(
            "LT_DET.MASK_PREDICTOR would do nothing: set MODEL.MASK_ON True and "
            f"MODEL.ROI_MASK_HEAD.NAME LongTailMaskHead, got {cfg.MODEL.MASK_ON} and {head!r}"
        )


def check_post_hoc_is_used(cfg: Any, model: nn.Module) -> None:
    """Raise if the config corrects logits and the model has no head that does.

    Raises:
        ValueError: names the keys.
    """
    defaults = default_keys().POST_HOC
    node = cfg.LT_DET.POST_HOC
    chosen = [f"LT_DET.POST_HOC.{key}" for key, value in node.items() if value != defaults[key]]
    if chosen and not any(getattr(module, "post_hoc", None) for module in model.modules()):
        raise ValueError(
            f"{' and '.join(chosen)} would do nothing to {type(model).__name__}: set LT_DET.PATCH "
            "True, MODEL.ROI_HEADS.NAME to LongTailROIHeads, LongTailCascadeROIHeads or "
            "LongTailRes5ROIHeads, or MODEL.META_ARCHITECTURE to one of this package"
        )


def _check_meta(cfg: Any, task: Task) -> None:
    meta, images = cfg.LT_DET.META, task.one_class_an_image
    for key, known in (
        ("METHOD", METHODS),
        ("SCOPE", ("classifier", "network")),
        ("REGIONS", ("", "forward", "bank")),
    ):
        if meta[key] not in known:
            raise ValueError(f"LT_DET.META.{key} must be one of {known}, got {meta[key]!r}")
    if meta.METHOD == "sampler" and not images:
        raise ValueError(
            "LT_DET.META.METHOD 'sampler' draws images by their class, and an image of a detector "
            "has several: use 'reweighter', as BALMS does on LVIS"
        )
    for key in ("SAMPLER.NAME", "DEFER.SAMPLER"):
        node, name = key.split(".")
        if meta.METHOD == "sampler" and cfg.LT_DET[node][name]:
            raise ValueError(
                "LT_DET.META.METHOD 'sampler' learns how images are drawn, and LT_DET."
                f"{key} {cfg.LT_DET[node][name]!r} would do nothing: leave it empty"
            )
    if meta.SCOPE == "network":
        if not images or cfg.LT_DET.DECOUPLED:
            raise ValueError(
                "LT_DET.META.SCOPE 'network' takes the inner step with all parameters: it is for "
                "image classifiers, without LT_DET.DECOUPLED"
            )
    elif not cfg.LT_DET.DECOUPLED:
        raise ValueError(
            "LT_DET.META.ENABLED learns for the second stage: set LT_DET.DECOUPLED True and "
            "MODEL.WEIGHTS to a stage-1 checkpoint"
        )
