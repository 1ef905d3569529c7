"""Remember the model of an evaluation for hooks and evaluators that are not given it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from detectron2.data import MetadataCatalog
from torch import nn

from lt_det.data.stats.class_stats import ClassStats
from lt_det.engine.checkpoint import LongTailCheckpointer
from lt_det.engine.startup.config_checks import check_post_hoc_is_used
from lt_det.engine.training_model import bind_post_hoc, bind_scores, post_hoc_corrections
from lt_det.engine.weights_fit import check_weights_fit
from lt_det.evaluation.rank_watch import mark
from lt_det.tasks import build_class_stats, build_task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluatedModel:
    """Facts about the model under evaluation.

    Attributes:
        weights: file with its weights; None in the middle of a training.
        iterations: how many it was trained for; None if its file does not say so.
        class_stats: of its training set; None to count it.
        in_training: whether its training goes on after the evaluation.
    """

    weights: str | None = None
    iterations: int | None = None
    class_stats: ClassStats | None = None
    in_training: bool = False


_UNKNOWN = EvaluatedModel()
_CURRENT: ContextVar[EvaluatedModel] = ContextVar("evaluated_model", default=_UNKNOWN)


def evaluated_model() -> EvaluatedModel:
    """Return the model of the innermost :func:`evaluating`; an empty record outside of it."""
    return _CURRENT.get()


def is_announced() -> bool:
    """Return whether this is within :func:`evaluating`: else the model may be any other."""
    return _CURRENT.get() is not _UNKNOWN


@contextlib.contextmanager
def evaluating(model: EvaluatedModel) -> Iterator[None]:
    """Declare the model under evaluation for the time of the block."""
    token = _CURRENT.set(model)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def load_evaluated_model(cfg: Any, model: nn.Module, *, resume: bool) -> EvaluatedModel:
    """Load weights into ``model``; return what their file says of them.

    Class counts, of post-hoc corrections too, are those of the file; the limits of the frequency
    groups are the config's.

    Args:
        cfg: config.
        model: built from it.
        resume: take OUTPUT_DIR's last checkpoint, if there is one, and not MODEL.WEIGHTS.

    Raises:
        ValueError: if there are no weights, most of them do not fit, post-hoc corrections would do
            nothing, or the model was trained on the held-out images that it would be tested on.
    """
    check_post_hoc_is_used(cfg, model)
    checkpointer = LongTailCheckpointer(model, cfg.OUTPUT_DIR)
    resuming = resume and checkpointer.has_checkpoint()
    weights = checkpointer.get_checkpoint_file() if resuming else cfg.MODEL.WEIGHTS
    if not weights:
        raise ValueError(
            "there is nothing to evaluate: set MODEL.WEIGHTS to a checkpoint, or give --resume "
            f"and the OUTPUT_DIR of a training (now {cfg.OUTPUT_DIR!r})"
        )
    extra = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    if not resuming:
        check_weights_fit(
            weights,
            checkpointer.keys_of_file,
            checkpointer.incompatible,
            model_keys=model.state_dict(),
        )
    stats = None
    if "class_stats" in extra:
        task = build_task(cfg)
        stats = ClassStats.from_dict(extra["class_stats"])
        stats = replace(stats, rare_max=task.rare_max, common_max=task.common_max)
        bind_post_hoc(model, stats, unit=task.unit)
    bind_scores(model, stats, unit=build_task(cfg).unit)
    for correction in post_hoc_corrections(model):
        correction.prepare(num_classes=build_task(cfg).num_classes())
    _check_held_out(cfg, stats, weights)
    model.register_forward_pre_hook(lambda *_: mark("evaluation"))
    # Checkpoints count iterations from 0.
    iterations = extra["iteration"] + 1 if "iteration" in extra else None
    return EvaluatedModel(weights, iterations, stats)


def _check_held_out(cfg: Any, stats: ClassStats | None, weights: str) -> None:
    """Raise if DATASETS.TEST has held-out images that the model was trained on."""
    names = [n for n in cfg.DATASETS.TEST if MetadataCatalog.get(n).get("image_held_out")]
    if not names:
        return
    if stats is None:
        logger.warning(
            "%s does not say which images it was trained on: if without LT_DET.CLASSIFICATION."
            "HELD_OUT, then on those of %s, too",
            *(weights, names),
        )
        return
    left = build_class_stats(cfg)
    if stats.image_counts != left.image_counts:
        raise ValueError(
            f"DATASETS.TEST {names} is held out of the training images, but {weights!r} was not "
            f"trained without it: on {stats.num_images} images, and LT_DET.CLASSIFICATION.HELD_OUT "
            f"{cfg.LT_DET.CLASSIFICATION.HELD_OUT} leaves {left.num_images}, or as many of other "
            "classes. Train a model with HELD_OUT, and evaluate it with the same keys"
        )


def classes_of_checkpoint(cfg: Any, *, resume: bool) -> tuple[Any, tuple[str, ...] | None]:
    """Return the config with the classes of the model to evaluate, and their names.

    With LT_DET.CLASSIFICATION.NUM_CLASSES 0 an image classifier has the classes of its training
    set. Its checkpoint knows them, so that the images need not be there. The names are None for
    files of bare weights, and the config stays as it is for detectors.

    Args:
        cfg: config.
        resume: see :func:`load_evaluated_model`.

    Raises:
        ValueError: if the checkpoint is broken, or has another number of classes than NUM_CLASSES.
    """
    checkpointer = LongTailCheckpointer(nn.Module(), cfg.OUTPUT_DIR)
    resuming = resume and checkpointer.has_checkpoint()
    weights = checkpointer.get_checkpoint_file() if resuming else cfg.MODEL.WEIGHTS
    if not os.path.isfile(weights):  # an address, or an error that loading explains
        return cfg, None
    saved = checkpointer._load_file(weights).get("class_stats")
    if saved is None:
        return cfg, None
    names, asked = tuple(saved["class_names"]), cfg.LT_DET.CLASSIFICATION.NUM_CLASSES
    if not build_task(cfg).one_class_an_image:
        return cfg, names
    if asked not in (0, len(names)):
        raise ValueError(
            f"LT_DET.CLASSIFICATION.NUM_CLASSES is {asked}, but {weights!r} was trained on "
            f"{len(names)} classes: set it to {len(names)}, or to 0"
        )
    cfg = cfg.clone()
    cfg.defrost()
    cfg.LT_DET.CLASSIFICATION.NUM_CLASSES = len(names)
    cfg.freeze()
    return cfg, names
