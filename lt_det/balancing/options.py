"""Options of a balance."""

from __future__ import annotations

from dataclasses import dataclass, field

from lt_det.balancing.choice import Objective


@dataclass(frozen=True)
class BalanceOptions:
    """What to try, and how to choose.

    Attributes:
        choose_on: registered data set; "" takes the only one of DATASETS.TEST.
        objective: what is to be high.
        budget: seconds; trainings that would not end within it are left out.
        images: test images to choose on; 0 takes all that time and disk allow.
        iterations: of each training.
        dtype: of the cached features, "float32" or "float16".
        losses: losses to train in place of all, beside what is kept from before.
        train: False tries calibrations only.
        tau: strengths of the losses that take out the prior, beside their own.
        score_thresholds: lower limits of the scores, beside the detector's own.
        nms_thresholds: overlaps, likewise.
        seed: of halves, resamples and subsets.
    """

    choose_on: str = ""
    objective: Objective = field(default_factory=Objective)
    budget: float = float("inf")
    images: int = 0
    iterations: int = 1000
    dtype: str = "float32"
    losses: tuple[str, ...] = ()
    train: bool = True
    tau: tuple[float, ...] = (0.5, 1.5)
    score_thresholds: tuple[float, ...] = (1e-4,)
    nms_thresholds: tuple[float, ...] = (0.4, 0.6)
    seed: int = 0
