"""Build post-hoc corrections from LT_DET.POST_HOC."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from torch import Tensor

from lt_det.config_errors import naming_keys
from lt_det.data.stats.fractal_dimension import box_centres, fractal_dimensions
from lt_det.data.warn_once import warn_once
from lt_det.losses import get_loss
from lt_det.modeling.calibration.logn import LogitMoments
from lt_det.modeling.classifiers.posthoc import Counts, PostHocCorrection
from lt_det.storage.regular_file import open_regular
from lt_det.tasks import Task, build_task

_KEYS = ("tau_norm", "logit_adjustment", "norcal", "norcal_counts", "fracal", "logn")


def build_post_hoc(cfg: Any, *, stage: int = 0) -> PostHocCorrection | None:
    """Return the correction of LT_DET.POST_HOC, None if there is none.

    Class counts are those of the checkpoint under evaluation, where it has them, else they are
    read from the training set at the first image; the boxes for FRACAL always are.
    Warns where training has corrected for them.

    Args:
        cfg: config.
        stage: of a cascade.

    Raises:
        ValueError: if a key is out of its range, keys exclude each other, or a calibration does
            not go with the loss, the classifier or the task.
        FileNotFoundError: if the file of LT_DET.POST_HOC.LOGN is not there.
    """
    node, task = cfg.LT_DET.POST_HOC, build_task(cfg)
    if cfg.LT_DET.CLASSIFIER.NAME == "cosine" and node.TAU_NORM:
        raise ValueError(
            "LT_DET.POST_HOC.TAU_NORM would do nothing to LT_DET.CLASSIFIER.NAME 'cosine', which "
            "normalises its weights already: set it to 0"
        )
    if node.FRACAL is not None and task.one_class_an_image:
        raise ValueError(
            "LT_DET.POST_HOC.FRACAL is of the boxes of a detector, and images to classify have "
            "none: set it None, or take LOGIT_ADJUSTMENT"
        )
    if node.FRACAL is not None and task.unit != "image":
        raise ValueError(
            "LT_DET.POST_HOC.FRACAL needs the share of images with a class, which instances are "
            "not: set LT_DET.CLASS_STATS.UNIT image"
        )
    with naming_keys(**{key: f"LT_DET.POST_HOC.{key.upper()}" for key in _KEYS}):
        correction = PostHocCorrection(
            tau_norm=node.TAU_NORM,
            logit_adjustment=node.LOGIT_ADJUSTMENT,
            norcal=node.NORCAL,
            norcal_counts=node.NORCAL_COUNTS,
            fracal=node.FRACAL,
            moments=read_logit_moments(node.LOGN) if node.LOGN else None,
            kind=get_loss(cfg.LT_DET.LOSS).kind,
            load_counts=functools.partial(_foreground_counts, task),
            load_dimensions=functools.partial(class_dimensions, task),
        )
    correction.stage = stage
    if node.LOGIT_ADJUSTMENT or node.NORCAL or node.FRACAL is not None:
        warn_of_second_correction(build_prior_corrections(cfg))
    chosen = node.TAU_NORM or node.LOGIT_ADJUSTMENT or node.NORCAL or node.LOGN
    return correction if chosen or node.FRACAL is not None else None


def _foreground_counts(task: Task) -> Counts:
    stats = task.class_stats()
    return torch.from_numpy(stats.counts(task.unit)), stats.num_images


def class_dimensions(task: Task) -> Tensor:
    """Return ``(K,)`` float64 fractal dimensions of the boxes of the counted data sets.

    Raises:
        ValueError: if no data set is named, or one has objects without boxes.
        KeyError: if one is not registered.
        FileNotFoundError: if its files are missing.
    """
    if not task.counted_sets:
        raise ValueError(
            "DATASETS.TRAIN is empty: FRACAL needs the boxes of the training set. Name it there or "
            "in LT_DET.CLASS_STATS.DATASETS"
        )
    found = [box_centres(DatasetCatalog.get(name)) for name in task.counted_sets]
    centres, classes = (np.concatenate(parts) for parts in zip(*found))
    return torch.from_numpy(fractal_dimensions(centres, classes, num_classes=task.num_classes()))


def read_logit_moments(file: str) -> list[LogitMoments]:
    """Return the logit moments of each stage that ``lt-det logit-moments`` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is none of these.
    """
    try:
        with open_regular(file, "r", encoding="utf-8") as stream:
            stages = json.load(stream)["stages"]
        return [LogitMoments.from_dict(stage) for stage in stages]
    except FileNotFoundError:
        raise FileNotFoundError(
            f"LT_DET.POST_HOC.LOGN: no file {file!r} with logit moments: write it with "
            "lt-det logit-moments"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"LT_DET.POST_HOC.LOGN: {file!r} is no file of lt-det logit-moments: {error}. Write it "
            "anew"
        ) from None


def build_prior_corrections(cfg: Any) -> list[str]:
    """Return keys and values by which training takes out the class prior."""
    node = cfg.LT_DET
    chosen = {
        "LOSS": node.LOSS if get_loss(node.LOSS).takes_out_prior else "",
        "CLASS_WEIGHTS.NAME": node.CLASS_WEIGHTS.NAME,
        "SAMPLER.NAME": node.SAMPLER.NAME,
        "DEFER.SAMPLER": node.DEFER.SAMPLER,
        "META.METHOD": node.META.METHOD if node.META.ENABLED else "",
    }
    # Of each image once an epoch the model learns the prior.
    return [f"LT_DET.{k} {v!r}" for k, v in chosen.items() if v not in ("", "instance")]


def warn_of_second_correction(corrections: Sequence[str]) -> None:
    """Warn if the model was trained against the class prior that logit adjustment takes out.

    Args:
        corrections: as :func:`build_prior_corrections` returns them.
    """
    if corrections:
        warn_once(
            f"Logit adjustment, NorCal and FRACAL are for models that have learned the class "
            f"prior, which {' and '.join(corrections)} takes out already: rare classes are "
            "corrected for twice"
        )
