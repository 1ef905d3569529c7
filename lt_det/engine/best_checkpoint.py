"""Keep the best checkpoint by any result, and stop where it gets no better."""

from __future__ import annotations

import difflib
import json
import logging
import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from lt_det.data.stats.frequency_groups import GROUP_NAMES, SHOT_NAMES
from lt_det.data.warn_once import warn_once
from lt_det.evaluation.lvis.average_precision import METRICS
from lt_det.evaluation.results import write_json
from lt_det.storage.regular_file import open_regular
from lt_det.tasks import build_task

logger = logging.getLogger(__name__)

#: Name of the best checkpoint without its ending.
BEST = "model_best"
_RECORD = "best_checkpoint.json"
_GROUPS = ("many", "medium", "few")
_OF_IMAGES = (
    *("top1", "mean_class", *_GROUPS, "natural"),
    *("ece", *(f"ece_{group}" for group in _GROUPS)),
)


class StopTraining(BaseException):
    """Ends the loop early; no error, and none that Detectron2 would log."""


class FollowResult(HookBase):
    """Follows one result through the evaluations of a training.

    ``model_best.pth`` has the weights of the best evaluation, ``best_checkpoint.json`` all
    values. The latter is what a resumed run goes on from: evaluations after the checkpoint that it
    resumes from are forgotten, and come again.
    """

    def __init__(self, metric: str, *, patience: int, period: int, output_dir: str) -> None:
        """Follow ``metric``.

        Args:
            metric: key of the results, such as "bbox/APr"; calibration errors ("ece") are best
                where they are lowest, all others where they are highest.
            patience: evaluations without a better one after which training stops; 0 for never.
            period: iterations from one evaluation to the next.
            output_dir: folder of the files.
        """
        self._metric, self._patience, self._period = metric, patience, period
        self._path = os.path.join(output_dir, _RECORD)
        self._best_file = os.path.join(output_dir, f"{BEST}.pth")
        self._values: list[tuple[int, float]] = []

    def before_train(self) -> None:
        """Read what the run has seen so far; forget the files of another."""
        start = self.trainer.start_iter
        self._values = read_values(self._path, self._metric, until=start) if start else []
        if not start and comm.is_main_process():
            for path in (self._path, self._best_file):
                if os.path.isfile(path):
                    os.remove(path)
        comm.synchronize()

    def after_step(self) -> None:
        """Look at the evaluation of this iteration, if there was one.

        Raises:
            StopTraining: in all processes, after model_final.pth was written.
        """
        done = self.trainer.iter + 1
        if self._period <= 0 or done % self._period or done >= self.trainer.max_iter:
            return
        self._look(done)
        stop = is_stale(self._values, self._metric, self._patience)
        # Results are those of the main process.
        if not comm.all_gather(stop)[0]:
            return
        if comm.is_main_process():
            best = best_of(self._values, self._metric)
            logger.info(
                "Early stopping (LT_DET.EARLY_STOPPING %d) after %d iterations: %s was best after "
                "%s, with %s",
                *(self._patience, done, self._metric, *(best or ("no evaluation", "no value"))),
            )
            self.trainer.checkpointer.save("model_final", iteration=self.trainer.iter)
        comm.synchronize()
        self.trainer.max_iter = done  # what the last evaluation goes by
        raise StopTraining

    def after_train(self) -> None:
        """Look at the evaluation at the end of a training."""
        if self.trainer.iter + 1 >= self.trainer.max_iter:  # as EvalHook, which was called before
            self._look(self.trainer.max_iter)

    def _look(self, done: int) -> None:
        if not comm.is_main_process():
            return
        latest = self.trainer.storage.latest()
        value, iteration = latest.get(self._metric, (math.nan, -1))
        if iteration != self.trainer.storage.iter:
            now = self.trainer.storage.iter
            keys = sorted(k for k, (_, i) in latest.items() if "/" in k and i == now)
            logger.warning(
                "LT_DET.BEST_CHECKPOINT %r is no result of this evaluation%s",
                self._metric,
                f"; there are {keys}" if keys else ": nothing was found in any image",
            )
            return
        if not _has_value(value):
            logger.warning(
                "LT_DET.BEST_CHECKPOINT %r is %s in this evaluation, which makes no model_best.pth "
                "and alone never stops the training: has DATASETS.TEST an object of it?",
                *(self._metric, value),
            )
        self._values = [one for one in self._values if one[0] < done] + [(done, float(value))]
        best = best_of(self._values, self._metric)
        if best is not None and best[0] == done:
            self.trainer.checkpointer.save_weights(BEST, iteration=done - 1)
            logger.info("%s %.4g is the best so far: %s.pth", self._metric, value, BEST)
        write_json(
            self._path,
            {
                "metric": self._metric,
                "best": None if best is None else {"iterations": best[0], "value": best[1]},
                "evaluations": [{"iterations": n, "value": v} for n, v in self._values],
            },
        )


def build_follow_result(cfg: Any) -> list[FollowResult]:
    """Return the hook of LT_DET.BEST_CHECKPOINT and LT_DET.EARLY_STOPPING, if they are set."""
    node = cfg.LT_DET
    if not node.BEST_CHECKPOINT:
        return []
    return [
        FollowResult(
            node.BEST_CHECKPOINT,
            patience=node.EARLY_STOPPING,
            period=cfg.TEST.EVAL_PERIOD,
            output_dir=cfg.OUTPUT_DIR,
        )
    ]


def check_metric(cfg: Any) -> None:
    """Raise if LT_DET.BEST_CHECKPOINT is no result that the evaluators of this package give.

    Raises:
        ValueError: says which are close, or that nothing is evaluated.
    """
    metric, test_sets = cfg.LT_DET.BEST_CHECKPOINT, cfg.DATASETS.TEST
    if not metric:
        return
    if not test_sets:
        raise ValueError(
            f"LT_DET.BEST_CHECKPOINT is {metric!r}, but DATASETS.TEST is empty: name a validation "
            'set there, or set LT_DET.BEST_CHECKPOINT ""'
        )
    known = [f"classification/{key}" for key in _OF_IMAGES]
    if not build_task(cfg).one_class_an_image:
        parts = ("bbox", "segm") if cfg.MODEL.MASK_ON else ("bbox",)
        known = [f"{part}/{key}" for part in parts for key in METRICS]
    if len(test_sets) > 1:
        known = [f"{name}/{key}" for name in test_sets for key in known]
    # Detectron2's COCO evaluation has the classes, too, as "bbox/AP-cup".
    if metric in known or any(metric.startswith(f"{key}-") for key in known):
        return
    close = difflib.get_close_matches(metric, known, n=3) or known[:9]
    raise ValueError(
        f"LT_DET.BEST_CHECKPOINT {metric!r} is no result of an evaluation on {list(test_sets)}; "
        f"close ones: {', '.join(close)}"
    )


def lower_is_better(metric: str) -> bool:
    """Return whether the lowest value of a result is the best: for calibration errors."""
    return metric.rpartition("/")[2].startswith("ece")


def best_of(values: list[tuple[int, float]], metric: str) -> tuple[int, float] | None:
    """Return iterations and value of the best evaluation, the latest of equal ones.

    Args:
        values: iterations and value of evaluations; NaN and -1, for undefined, count for none.
        metric: what it is.
    """
    sign = -1.0 if lower_is_better(metric) else 1.0
    known = [one for one in values if _has_value(one[1])]
    return max(known, key=lambda one: (sign * one[1], one[0]), default=None)


def is_stale(values: list[tuple[int, float]], metric: str, patience: int) -> bool:
    """Return whether the last ``patience`` evaluations were no better than one before them.

    A result that never had a value is undefined on the test set, and says nothing of the training.

    Args:
        values: iterations and value of evaluations, in order.
        metric: what they are.
        patience: 0 is never stale.
    """
    if not patience or not values:
        return False
    best = best_of(values, metric)
    if best is None:
        return False
    # As good as before is no better.
    first = min(n for n, value in values if value == best[1])
    return sum(n > first for n, _ in values) >= patience


def warn_if_undefined(
    metric: str, test_set: str, present: Collection[str], groups: Mapping[str, Sequence[str]]
) -> None:
    """Warn if a result has no value on a test set, as no class that it is over has an object there.

    Args:
        metric: LT_DET.BEST_CHECKPOINT; results of other test sets are left alone.
        test_set: name.
        present: names of the classes that have objects there.
        groups: "r", "c" and "f" -> names of the classes of that group.
    """
    of_class = re.fullmatch(r"(.*)/AP\w*-(.+)", metric)
    of_set = of_class[1] if of_class else metric.rpartition("/")[0]
    if "/" in of_set and not of_set.startswith(f"{test_set}/"):
        return
    group = group_of(metric)
    if of_class:
        classes, why = [of_class[2]], f"it has no object of class {of_class[2]!r}"
    elif group is not None:
        classes, name = list(groups[group]), GROUP_NAMES[group]
        why = f"it has no object of the {len(classes)} {name} classes"
        if not classes:
            why = f"the training set has no {name} class"
    else:
        return
    if not set(classes) & set(present):
        warn_once(
            f"LT_DET.BEST_CHECKPOINT {metric!r} has no value on DATASETS.TEST {test_set!r}: {why}. "
            "There will be no model_best.pth, and LT_DET.EARLY_STOPPING never stops: follow "
            "another result"
        )


def group_of(metric: str) -> str | None:
    """Return the frequency group that a result is over, as "r" of "bbox/APr"; None of others."""
    key = metric.rpartition("/")[2].removeprefix("ece_")
    of_images = {name: group for group, name in SHOT_NAMES.items()}
    return {"APr": "r", "APc": "c", "APf": "f", **of_images}.get(key)


def _has_value(value: float) -> bool:
    """Return whether a result is defined: COCO's tools write -1 where it is not."""
    return math.isfinite(value) and value >= 0


def read_values(path: str, metric: str, *, until: int) -> list[tuple[int, float]]:
    """Return iterations and values of a record up to an iteration; [] of another metric.

    Args:
        path: of best_checkpoint.json.
        metric: that is followed.
        until: iterations that the run has behind it.
    """
    try:
        with open_regular(path, "r", encoding="utf-8") as file:
            content = json.load(file)
        if content["metric"] != metric:
            return []
        found = [
            (int(one["iterations"]), math.nan if one["value"] is None else float(one["value"]))
            for one in content["evaluations"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [one for one in found if one[0] <= until]


def end_of_run(cfg: Any, iterations: int) -> int:
    """Return the last iteration of a run that is resumed: where it was stopped early, or MAX_ITER.

    Args:
        cfg: its config.
        iterations: of its last checkpoint.
    """
    node = cfg.LT_DET
    path = os.path.join(cfg.OUTPUT_DIR, _RECORD)
    values = read_values(path, node.BEST_CHECKPOINT, until=iterations)
    is_over = is_stale(values, node.BEST_CHECKPOINT, node.EARLY_STOPPING)
    return iterations if is_over else int(cfg.SOLVER.MAX_ITER)
