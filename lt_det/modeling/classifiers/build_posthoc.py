"""Build post-hoc corrections from LT_DET.POST_HOC."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lt_det.data.warn_once import warn_once
from lt_det.losses import get_loss
from lt_det.modeling.classifiers.posthoc import PostHocCorrection
from lt_det.tasks import Task, build_task


def build_post_hoc(cfg: Any) -> PostHocCorrection | None:
    """Return the correction of LT_DET.POST_HOC, None if there is none.

    Class counts are those of the checkpoint under evaluation, where it has them, else they are
    read from the training set at the first image. Warns where training has corrected for them.

    Raises:
        ValueError: if a tau is negative, or the weights of a cosine classifier were normalised.
    """
    node = cfg.LT_DET.POST_HOC
    if node.TAU_NORM and cfg.LT_DET.CLASSIFIER.NAME == "cosine":
        raise ValueError(
            "LT_DET.POST_HOC.TAU_NORM would do nothing to LT_DET.CLASSIFIER.NAME 'cosine', which "
            "normalises its weights already: set it to 0"
        )
    correction = PostHocCorrection(
        tau_norm=node.TAU_NORM,
        logit_adjustment=node.LOGIT_ADJUSTMENT,
        load_counts=functools.partial(_foreground_counts, build_task(cfg)),
    )
    if node.LOGIT_ADJUSTMENT:
        warn_of_second_correction(build_prior_corrections(cfg))
    return correction if node.TAU_NORM or node.LOGIT_ADJUSTMENT else None


def _foreground_counts(task: Task) -> Tensor:
    return torch.from_numpy(task.class_stats().counts(task.unit))


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
            f"Logit adjustment is for models that have learned the class prior, which "
            f"{' and '.join(corrections)} takes out already: rare classes are corrected for twice"
        )
