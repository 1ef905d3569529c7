"""Hooks of the training loop; a resumed run needs no state of theirs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn
from tqdm import tqdm

from lt_det.data.stats.class_stats import ClassStats
from lt_det.data.stats.frequency_groups import GROUP_NAMES
from lt_det.engine.loading.train_stream import seed_everything
from lt_det.engine.training_model import average_batch_norm
from lt_det.evaluation.rank_watch import mark
from lt_det.evaluation.results import write_json
from lt_det.meta.meta_learner import MetaLearner
from lt_det.report.class_weights_plot import save_class_weights_plot


def build_hooks(
    cfg: Any, model: nn.Module, meta: MetaLearner | None, stats: ClassStats
) -> list[HookBase]:
    """Return the hooks of this process that the config asks for; they go before the writers.

    Args:
        cfg: config.
        model: that the training loop calls.
        meta: what it learns is logged.
        stats: of the training set.
    """
    ret: list[HookBase] = []
    if comm.get_world_size() > 1:
        ret.append(MarkProgress(model))
    if cfg.SEED >= 0:
        ret.append(SeedEachIteration(cfg.SEED))
    if meta is not None:
        ret.append(LogClassWeights(meta, stats, cfg.OUTPUT_DIR))
    if comm.is_main_process() and cfg.LT_DET.PROGRESS_BAR:
        ret.append(ProgressBar(os.path.basename(cfg.OUTPUT_DIR.rstrip("/"))))
    return ret


class SeedEachIteration(HookBase):
    """Makes the random state of an iteration a function of the seed, the iteration and the rank.

    Region sampling draws from it: so a resumed run draws as an uninterrupted one.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def before_step(self) -> None:
        """Seed python, numpy and torch."""
        seed_everything(self._seed, self.trainer.iter, comm.get_rank(), 1)


class MarkProgress(HookBase):
    """Reports the progress of this rank to the watch: loading, model, or step."""

    def __init__(self, model: nn.Module) -> None:
        """Watch ``model``, the one that the training loop calls."""
        self._model = model

    def before_train(self) -> None:
        """Watch the calls of the model."""
        self._handles = [
            self._model.register_forward_pre_hook(lambda *_: self._mark("model")),
            self._model.register_forward_hook(lambda *_: self._mark("gradients")),
        ]

    def before_step(self) -> None:
        """Mark the start of an iteration."""
        self._mark("data")

    def after_train(self) -> None:
        """Stop watching."""
        for handle in self._handles:
            handle.remove()

    def _mark(self, what: str) -> None:
        mark(f"iteration {self.trainer.iter}: {what}")


class AverageBatchNorm(HookBase):
    """Makes the batch norm of all processes one before each checkpoint and each evaluation."""

    def __init__(self, model: nn.Module, *, periods: Sequence[int]) -> None:
        """Watch ``model``; a period is a number of iterations, below 1 for the last one only."""
        self._model, self._periods = model, [period for period in periods if period > 0]

    def after_step(self) -> None:
        """Average, in the iterations that a checkpoint or an evaluation follows."""
        done = self.trainer.iter + 1
        if done >= self.trainer.max_iter or any(done % period == 0 for period in self._periods):
            average_batch_norm(self._model)


class ProgressBar(HookBase):
    """A progress bar with ETA on a terminal; silent where the output is a file."""

    def __init__(self, description: str) -> None:
        self._description = description

    def before_train(self) -> None:
        """Open the bar."""
        self._bar = tqdm(
            total=self.trainer.max_iter,
            initial=self.trainer.start_iter,
            desc=self._description,
            unit="it",
            disable=None,
        )

    def after_step(self) -> None:
        """Advance by one iteration."""
        latest = self.trainer.storage.latest()
        if "total_loss" in latest:
            self._bar.set_postfix(loss=f"{latest['total_loss'][0]:.3f}", refresh=False)
        self._bar.update()

    def after_train(self) -> None:
        """Close the bar."""
        self._bar.close()


class LogClassWeights(HookBase):
    """Logs what a meta learner learned, by frequency group; at the end saves it and a picture.

    Scalars ``meta/weight_{rare,common,frequent}`` go to TensorBoard and metrics.json; the files
    ``class_weights.json`` and ``class_weights.png`` to the output folder. With the Meta Sampler
    they say "rate" for "weight".
    """

    def __init__(
        self, meta: MetaLearner, stats: ClassStats, output_dir: str, *, period: int = 20
    ) -> None:
        """Watch ``meta``.

        Args:
            meta: what it learned is logged divided by its mean over classes.
            stats: frequency groups of the classes.
            output_dir: where the files go.
            period: iterations between two log entries.
        """
        self._meta, self._stats = meta, stats
        self._output_dir, self._period = output_dir, period

    def after_step(self) -> None:
        """Log the mean weight of each group."""
        if (self.trainer.iter + 1) % self._period and self.trainer.iter + 1 < self.trainer.max_iter:
            return
        weights = self._meta.relative_values().cpu().numpy()
        for group, members in self._stats.group_members().items():
            if len(members):
                self.trainer.storage.put_scalar(
                    f"meta/{self._meta.learned}_{GROUP_NAMES[group]}",
                    float(weights[members].mean()),
                    smoothing_hint=False,
                )

    def after_train(self) -> None:
        """Save the weights, whole or not at all, and draw them against frequency."""
        if not comm.is_main_process():
            return
        weights = self._meta.relative_values().cpu().tolist()
        record: dict[str, Any] = {
            name: {self._meta.learned: weight, "image_count": count, "group": group}
            for name, weight, count, group in zip(
                self._stats.class_names,
                weights,
                self._stats.image_counts,
                self._stats.frequency_groups,
            )
        }
        path = os.path.join(self._output_dir, f"class_{self._meta.learned}s")
        write_json(f"{path}.json", record)
        save_class_weights_plot(self._stats, weights, f"{path}.png", what=self._meta.learned)
