"""Train classifiers of a frozen detector from cached regions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.engine import HookBase, hooks
from torch import Tensor

from lt_det.balancing.candidates import Candidate, Recipe
from lt_det.balancing.image_replay import parameters_of
from lt_det.balancing.replay import Classifiers
from lt_det.data.records.dataset_dicts import build_train_dicts
from lt_det.data.sampling.repeat_threshold import repetition
from lt_det.engine import hooks as our_hooks
from lt_det.engine.loading.build import build_train_stream
from lt_det.engine.regions.store import ImageRegions
from lt_det.engine.trainer import LongTailTrainer
from lt_det.modeling.calibration import LogitMoments
from lt_det.modeling.classifiers.classification_head import classification_heads
from lt_det.tasks import build_class_stats, build_task

# Steps of the schedule, as shares of the iterations.
_WARMUP, _STEP = 0.0125, 0.75


class _OnIteration(HookBase):
    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def after_step(self) -> None:
        self._call()


class ClassifierTrainer(LongTailTrainer):
    """Trainer that leaves no files, on some of the training images."""

    rows: Sequence[int] | None = None
    on_iteration: Callable[[], None] = staticmethod(lambda: None)

    def build_hooks(self) -> list[HookBase]:
        """Return the schedule, the seeds and the progress bar only."""
        seeds = [our_hooks.SeedEachIteration(self.cfg.SEED)] if self.cfg.SEED >= 0 else []
        return [hooks.LRScheduler(), *seeds, _OnIteration(type(self).on_iteration)]

    @classmethod
    def build_train_loader(cls, cfg: Any, mapper: Any = None) -> Any:
        """Return the stream over the images of :attr:`rows`; None is all."""
        if cls.rows is None:
            return build_train_stream(cfg, mapper=mapper)
        dicts = build_train_dicts(cfg)
        return build_train_stream(cfg, [dicts[row] for row in cls.rows], mapper=mapper)


def training_config(cfg: Any, recipe: Recipe, *, iterations: int, dtype: str) -> Any:
    """Return the config of the second stage that a recipe asks for.

    Args:
        cfg: of the model; MODEL.WEIGHTS are its weights, OUTPUT_DIR what the cache lies beside.
        recipe: loss, sampler, weights, meta learner.
        iterations: of SOLVER.IMS_PER_BATCH images.
        dtype: of the cached features.

    A DATALOADER.REPEAT_THRESHOLD that repeats no image gives way to one that does, where the recipe
    samples by repeat factors (:func:`lt_det.data.sampling.repeat_threshold.repetition`).
    """
    cfg = cfg.clone()
    cfg.defrost()
    images = build_task(cfg).one_class_an_image
    if not images and not cfg.MODEL.ROI_HEADS.NAME.startswith("LongTail"):
        cfg.LT_DET.PATCH = True
    if images and cfg.LT_DET.CLASSIFIER.NAME == "lws":
        cfg.LT_DET.CLASSIFIER.NAME = "linear"  # all of it is trained
    cfg.LT_DET.RESET_CLASSIFIER, cfg.LT_DET.META.SCOPE = False, "classifier"
    cfg.LT_DET.DECOUPLED = cfg.LT_DET.REGION_CACHE.ENABLED = True
    cfg.LT_DET.REGION_CACHE.DTYPE = dtype
    cfg.LT_DET.PROGRESS_BAR = False
    cfg.LT_DET.CLASS_WEIGHTS.NAME = cfg.LT_DET.SAMPLER.NAME = ""
    cfg.LT_DET.DEFER.START_ITER, cfg.LT_DET.DEFER.START_EPOCH = 0, 0.0
    cfg.LT_DET.META.ENABLED = False
    cfg.DATALOADER.NUM_WORKERS = 0
    # Of the training that is over: what it chose by, began with, pasted and deferred.
    cfg.DATASETS.TEST, cfg.LT_DET.BEST_CHECKPOINT, cfg.LT_DET.EARLY_STOPPING = (), "", 0
    cfg.LT_DET.START_CLASSES, cfg.LT_DET.COPY_PASTE.ENABLED = "", False
    cfg.LT_DET.DEFER.LOSS = cfg.LT_DET.DEFER.SAMPLER = ""
    cfg.SOLVER.MAX_ITER = iterations
    step = int(_STEP * iterations)
    cfg.SOLVER.STEPS = (step,) if step else ()
    cfg.SOLVER.WARMUP_ITERS = int(_WARMUP * iterations)
    cfg.merge_from_list(list(recipe.options))
    if cfg.LT_DET.SAMPLER.NAME == "repeat_factor":
        stats = build_class_stats(cfg)
        rarest = min((n for n in stats.image_counts if n), default=0) / max(stats.num_images, 1)
        if rarest >= cfg.DATALOADER.REPEAT_THRESHOLD:  # it would repeat nothing
            found = repetition(stats.image_counts, images=stats.num_images)
            cfg.DATALOADER.REPEAT_THRESHOLD = found.threshold
    cfg.freeze()
    return cfg


def trained_detector(
    cfg: Any,
    recipe: Recipe,
    *,
    iterations: int,
    dtype: str,
    rows: Sequence[int] | None,
    on_iteration: Callable[[], None] = lambda: None,
) -> Any:
    """Return the detector with the trained classifiers of a recipe, in training mode.

    Args:
        cfg: as :func:`training_config`.
        recipe: what to train.
        iterations: see there.
        dtype: see there.
        rows: of the training images; None is all.
        on_iteration: called after each; may raise to stop.
    """
    of_recipe = {"rows": rows, "on_iteration": staticmethod(on_iteration)}
    trainer_class = type("RecipeTrainer", (ClassifierTrainer,), of_recipe)
    with quiet():
        trainer = trainer_class(training_config(cfg, recipe, iterations=iterations, dtype=dtype))
        trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer._detector


def train_candidate(cfg: Any, recipe: Recipe, **how: Any) -> Candidate:
    """Return the trained classifiers of a recipe.

    Args:
        cfg: as :func:`training_config`.
        recipe: what to train.
        how: see :func:`trained_detector`.
    """
    found: list[tuple[Tensor, Tensor]] = []
    for head in classification_heads(trained_detector(cfg, recipe, **how)):
        found.append(parameters_of(head.cls_score))
    keys = zip(recipe.options[::2], recipe.options[1::2])
    settings = ", ".join(f"{key.removeprefix('LT_DET.')} {value}" for key, value in keys)
    return Candidate(recipe.name, recipe.level, found, settings)


def training_regions(
    cfg: Any, recipe: Recipe, *, dtype: str, rows: Sequence[int] | None
) -> Sequence[ImageRegions]:
    """Return the cached regions of the training images, computed where they are missing.

    Args:
        cfg: as :func:`training_config`.
        recipe: any; the regions do not depend on it.
        dtype: see there.
        rows: of the training images; None is all.
    """
    trainer_class = type("RecipeTrainer", (ClassifierTrainer,), {"rows": rows})
    with quiet():
        trainer = trainer_class(training_config(cfg, recipe, iterations=1, dtype=dtype))
        trainer.resume_or_load(resume=False)
        trainer._build_streams()
    return trainer._stream.items


@torch.no_grad()
def logit_moments(regions: Sequence[ImageRegions], classifiers: Classifiers) -> list[LogitMoments]:
    """Return the moments of the logits of each stage over all training regions."""
    moments = [LogitMoments(len(weight)) for weight, _ in classifiers]
    for place in range(len(regions)):
        for of_stage, (features, _), (weight, bias) in zip(moments, regions[place], classifiers):
            of_stage.add(F.linear(features, weight, bias))
    return moments


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the loggers of a training to warnings, that of timm to errors: dozens are started."""
    names = ("detectron2", "fvcore", "lt_det.engine", "timm")
    loggers = [logging.getLogger(name) for name in names]
    levels = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.ERROR if one.name == "timm" else logging.WARNING)
        yield
    finally:
        for one, level in zip(loggers, levels):
            one.setLevel(level)
