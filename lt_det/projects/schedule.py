"""Schedule of a stage: iterations out of the time that there is, and what hangs on them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lt_det.projects.recipe import Setting

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = r"(\d+(?:\.\d+)?)([smhd])"
#: Iterations that a training has at the least, so that it shows whether it runs, and that lie
#: between evaluations or checkpoints.
_FEWEST = 20
#: Linear scaling starts from Detectron2's 1,000 iterations, which are a ninetieth of its 1x.
_WARM_UP, _WARM_UP_SHARE = 1000, 0.1
_MOST_EVALUATIONS = 10
#: Share of the time of a stage that its evaluations may take.
_EVALUATION_SHARE = 0.1
#: Seconds to import, to read the data, to build the model and to write checkpoints.
_START_UP = 20.0


def seconds_of(budget: str) -> float:
    """Return the seconds of a text such as "1h", "90m", "1h30m" or "2d".

    Raises:
        ValueError: if it is no such text, or less than a minute.
    """
    text = budget.strip().lower()
    if not re.fullmatch(f"(?:{_PART})+", text):
        raise ValueError(
            f"--budget must be a time such as 30m, 1h, 1h30m or 2d, got {budget!r}: s, m, h and d "
            "are seconds, minutes, hours and days"
        )
    seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))
    if seconds < 60:
        raise ValueError(f"--budget must be at least 1m, got {budget!r}")
    return seconds


def budget_text(seconds: float) -> str:
    """Return seconds in words, as "1.5 hours"."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds / 60:.3g} minutes" if seconds >= 60 else f"{seconds:.3g} seconds"


@dataclass(frozen=True)
class Schedule:
    """Iterations of a stage.

    Attributes:
        max_iter: all of them.
        epochs: how many times the images are drawn in them, repetition counted.
        limited_by: "time" if more would be of use, "epochs" if the time allows more.
        eval_period: iterations from one evaluation to the next; 0 without one.
        reason: of ``max_iter``.
    """

    max_iter: int
    epochs: float
    limited_by: str
    eval_period: int
    reason: str

    @property
    def steps(self) -> list[int]:
        """Iterations at which the learning rate falls to a tenth: 2/3 and 8/9 of all."""
        steps = [round(self.max_iter * share) for share in (2 / 3, 8 / 9)]
        return sorted({step for step in steps if 0 < step < self.max_iter})

    @property
    def warm_up(self) -> int:
        """Iterations in which the learning rate rises."""
        return min(_WARM_UP, round(self.max_iter * _WARM_UP_SHARE))


def plan(
    *,
    seconds: float,
    epoch: float,
    batch: int,
    seconds_per_image: float,
    val_images: int,
    most_epochs: float,
    fixed_seconds: float = 0.0,
    val_share: float = 0.4,
) -> Schedule:
    """Return the schedule of a stage.

    Args:
        seconds: that the stage may take.
        epoch: images drawn in an epoch, those that are repeated as often as they are.
        batch: images of a batch.
        seconds_per_image: of training.
        val_images: images of an evaluation; 0 for none.
        most_epochs: what is of use.
        fixed_seconds: that the stage takes before its first iteration.
        val_share: seconds of evaluation an image, as a share of those of training.
    """
    left = max(seconds - _START_UP - fixed_seconds, 0.0)
    one_evaluation = val_images * seconds_per_image * val_share
    for_training = left * (1 - _EVALUATION_SHARE) if val_images else left
    affordable = for_training / seconds_per_image / batch
    useful = epoch * most_epochs / batch
    max_iter = max(_FEWEST, math.floor(min(affordable, useful)))
    limited_by = "time" if affordable < useful else "epochs"
    epochs = max_iter * batch / epoch
    reason = f"{epochs:.3g} epochs of {epoch:,.0f} draws, {batch} an iteration: "
    if max_iter > min(affordable, useful):
        reason += "the fewest that show whether it runs"
        if limited_by == "time":
            reason += "; the time allows fewer, give a longer --budget"
    elif limited_by == "time":
        reason += (
            f"what {for_training / 60:.3g} minutes allow at {seconds_per_image:.3g} s an image"
        )
    else:
        reason += f"more than {most_epochs:.3g} epochs are of little use"
    period = 0
    if val_images:
        spent = max_iter * batch * seconds_per_image
        allowed = max(spent, for_training) * _EVALUATION_SHARE / max(one_evaluation, 1e-9)
        most = min(_MOST_EVALUATIONS, max_iter // _FEWEST)
        number = max(1, min(most, math.floor(allowed)))
        period = math.ceil(max_iter / number)
    return Schedule(max_iter, epochs, limited_by, period, reason)


def most_epochs(images: int, *, usual: float, most: float, draws: int) -> float:
    """Return how many epochs are of use: ``usual``, for few images more.

    Args:
        images: of the training set.
        usual: for thousands of images.
        most: at any number of images.
        draws: images that small sets are drawn in all, between the two.
    """
    return max(usual, min(most, draws / max(images, 1)))


def schedule_settings(
    schedule: Schedule, *, metric: str, batch: int, rate: float, rate_reason: str
) -> Sequence[Setting]:
    """Return SOLVER, TEST.EVAL_PERIOD and the choice of a checkpoint.

    Args:
        schedule: of the stage.
        metric: result by which the best checkpoint is chosen; "" without evaluation.
        batch: images of a batch.
        rate: learning rate an image of the batch.
        rate_reason: where it comes from.
    """
    fifth = min(max(_FEWEST, math.ceil(schedule.max_iter / 5)), schedule.max_iter)
    period = min(schedule.eval_period or fifth, fifth)
    found = [
        Setting("SOLVER.IMS_PER_BATCH", batch, "all processes together"),
        Setting(
            "SOLVER.BASE_LR",
            float(f"{rate * batch:.3g}"),
            f"linear scaling: {rate:g} an image of the batch, {rate_reason}",
        ),
        Setting("SOLVER.MAX_ITER", schedule.max_iter, schedule.reason),
        Setting("SOLVER.STEPS", schedule.steps, "a tenth of the rate at 2/3 and 8/9 of MAX_ITER, "
                "as in Detectron2's 1x"),
        Setting("SOLVER.WARMUP_ITERS", schedule.warm_up, "a tenth of MAX_ITER, 1,000 at most"),
        Setting("SOLVER.CHECKPOINT_PERIOD", period, "so much is lost at most; --resume goes on"),
        Setting(
            "TEST.EVAL_PERIOD",
            schedule.eval_period,
            "evaluations take about a tenth of the time"
            if schedule.eval_period
            else "there is no validation set",
        ),
    ]  # fmt: skip
    if metric:
        found += [
            Setting(
                "LT_DET.BEST_CHECKPOINT",
                metric,
                'model_best.pth is that of the highest; any key of results.json, such as "'
                f'{metric.partition("/")[0]}/APr" for the rare classes; "" keeps none'
                if metric.endswith("/AP")
                else "model_best.pth is that of the highest; any key of results.json; "
                '"" keeps none',
            ),
            Setting(
                "LT_DET.EARLY_STOPPING",
                0,
                "stop after so many evaluations without a better one; 0: never, the rate "
                "falls at the end only",
            ),
        ]
    return found


def clipping_settings() -> Sequence[Setting]:
    """Return the clipping of gradients."""
    return [
        Setting("SOLVER.CLIP_GRADIENTS.ENABLED", True, "small batches have large gradients"),
        Setting("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "norm", "of each parameter"),
        Setting("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 1.0, "Detectron2's"),
    ]  # fmt: skip
