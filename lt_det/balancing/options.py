"""Options of a balance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lt_det.balancing.choice import Objective
from lt_det.tasks import build_task


@dataclass(frozen=True)
class BalanceOptions:
    """What to try, and how to choose.

    Attributes:
        choose_on: registered data set; "" takes the only one of DATASETS.TEST.
        objective: what is to be high; None is APr with AP not below the start for detectors, and
            the mean accuracy of the classes for image classifiers.
        budget: seconds; trainings that would not end within it are left out.
        images: test images to choose on; 0 takes all that time and disk allow.
        iterations: of each training.
        dtype: of the cached features, "float32" or "float16".
        losses: losses to train beside all that apply.
        train: False tries calibrations only.
        tau: strengths of the losses that take out the prior, beside their own.
        score_thresholds: lower limits of the scores, beside the detector's own.
        nms_thresholds: overlaps, likewise.
        evaluate: evaluate the start and the result through the whole model at the end.
        seed: of halves, resamples and subsets.
    """

    choose_on: str = ""
    objective: Objective | None = None
    budget: float = float("inf")
    images: int = 0
    iterations: int = 1000
    dtype: str = "float32"
    losses: tuple[str, ...] = ()
    train: bool = True
    tau: tuple[float, ...] = (0.5, 1.5)
    score_thresholds: tuple[float, ...] = (1e-4,)
    nms_thresholds: tuple[float, ...] = (0.4, 0.6)
    evaluate: bool = False
    seed: int = 0


def objective_of(cfg: Any, metric: str, kept: str | None, loss: float) -> Objective:
    """Return an objective.

    Args:
        cfg: config of the model.
        metric: "" is APr of detectors, and mean_class of image classifiers.
        kept: what must not fall, "" for nothing; None is the mean over all classes.
        loss: points by which it may fall.

    Raises:
        ValueError: if metrics are unknown or of two kinds of model, or ``loss`` is negative.
    """
    images = build_task(cfg).one_class_an_image
    return Objective.of(metric or ("mean_class" if images else "APr"), kept, loss)
