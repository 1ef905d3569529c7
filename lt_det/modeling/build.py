"""Build losses and the prior of sigmoid classifiers from a config."""

from __future__ import annotations

import functools
import logging
from dataclasses import fields
from operator import attrgetter
from typing import Any

import torch
from detectron2.utils.events import get_event_storage
from torch import Tensor

from lt_det.config_errors import naming_keys
from lt_det.data.stats.class_prior import bound_counts
from lt_det.losses import LossSpec, get_loss
from lt_det.losses.base_criterion import BaseCriterion
from lt_det.losses.class_weights import ClassWeights, check_number_of_values
from lt_det.losses.criterion import Criterion
from lt_det.losses.deferred import DeferredCriterion
from lt_det.losses.draws import Draws
from lt_det.losses.image_lists import ImageLists
from lt_det.modeling.trainer_keys import OF_LOADER, OF_TRAINER, refuse_other_trainers
from lt_det.tasks import Task, build_task
from lt_det.tasks.deferral import Deferral

logger = logging.getLogger(__name__)

# Other draws than those of a loss at any stage of a cascade.
_PLACE_OF_LISTS = 1000


def build_criterion(cfg: Any) -> BaseCriterion:
    """Return the configured loss; its class counts are read at the first training batch.

    So a model can be built for inference where the training set is not. Where the config asks for
    what only this package's trainer does, the loss raises in any other.

    Raises:
        ValueError: if LT_DET.DEFER or LT_DET.CLASS_WEIGHTS contradicts itself or changes nothing.
    """
    with naming_keys(
        loss="LT_DET.LOSS",
        before="LT_DET.DEFER.LOSS",
        after="LT_DET.LOSS",
        denominator="LT_DET.CLASS_WEIGHTS.DENOMINATOR",
    ):
        criterion = _build_criterion(cfg)
    criterion.image_lists = _build_image_lists(cfg)
    keys = {key: attrgetter(key)(cfg) for key in (*OF_TRAINER, *OF_LOADER)}
    refuse_other_trainers(criterion, [key for key, value in keys.items() if value])
    return criterion


def _build_criterion(cfg: Any) -> BaseCriterion:
    node = cfg.LT_DET
    deferral = Deferral.from_config(cfg)
    after = _build_undeferred(cfg, node.LOSS, class_weights=_build_class_weights(cfg))
    if not deferral.defers_loss:
        return after
    return DeferredCriterion(
        _build_undeferred(cfg, deferral.loss_before or node.LOSS, class_weights=None),
        after,
        start_iteration=functools.partial(deferral.start, after.annotated_images),
        current_iteration=storage_iteration,
    )


def storage_iteration() -> int | None:
    """Return the iteration of Detectron2's event storage, from 0; None outside of a trainer.

    Trainers of Detectron2 restore it on resume.
    """
    try:
        return int(get_event_storage().iter)
    except AssertionError:  # Detectron2's answer where there is no storage
        return None


def _build_class_weights(cfg: Any) -> ClassWeights | None:
    node = cfg.LT_DET.CLASS_WEIGHTS
    if not node.NAME:
        defaults = {"NAME": "", **{f.name.upper(): f.default for f in fields(ClassWeights)[1:]}}
        changed = [
            f"LT_DET.CLASS_WEIGHTS.{key} {value!r}"
            for key, value in node.items()
            if (tuple(value) if key == "VALUES" else value) != defaults[key]
        ]
        if changed:
            raise ValueError(
                f"{' and '.join(changed)} would do nothing: set LT_DET.CLASS_WEIGHTS.NAME "
                "effective_number, inverse_frequency or given"
            )
        return None
    background = get_loss(cfg.LT_DET.LOSS).counts_background and build_task(cfg).has_background
    with naming_keys(
        **{f.name: f"LT_DET.CLASS_WEIGHTS.{f.name.upper()}" for f in fields(ClassWeights)}
    ):
        weights = ClassWeights(
            node.NAME,
            beta=node.BETA,
            normalisation=node.NORMALISATION,
            denominator=node.DENOMINATOR,
            power=node.POWER,
            values=tuple(node.VALUES),
            background=background,
        )
        if weights.values:
            check_number_of_values(weights.values, num_classes=build_task(cfg).num_classes())
        return weights


def _build_image_lists(cfg: Any) -> ImageLists | None:
    node = cfg.LT_DET.IMAGE_LISTS
    if not node.POLICY:
        if node.FILL:
            raise ValueError(
                f"LT_DET.IMAGE_LISTS.FILL {node.FILL} would do nothing: set LT_DET.IMAGE_LISTS."
                "POLICY all or known"
            )
        return None
    task = build_task(cfg)
    if task.one_class_an_image:
        raise ValueError(
            f"LT_DET.IMAGE_LISTS.POLICY {node.POLICY!r} is for detectors, whose images have "
            "classes that are not annotated: set it '' for image classification"
        )
    with naming_keys(
        **{name: f"LT_DET.IMAGE_LISTS.{name.upper()}" for name in ("policy", "fill", "fill_power")}
    ):
        lists = ImageLists(
            node.POLICY,
            fill=node.FILL,
            fill_power=node.FILL_POWER,
            load_counts=functools.partial(_load_counts, task, spec=get_loss("sigmoid_ce")),
        )
    lists.draws = Draws(_build_seed(cfg), storage_iteration, place=_PLACE_OF_LISTS)
    return lists


def _build_seed(cfg: Any) -> int:
    # Without SEED, Detectron2 has drawn one for the process.
    return cfg.SEED if cfg.SEED >= 0 else torch.initial_seed()


def _build_undeferred(cfg: Any, name: str, *, class_weights: ClassWeights | None) -> Criterion:
    parameters = {
        key.lower(): value for key, value in cfg.LT_DET.LOSS_PARAMS.get(name.upper(), {}).items()
    }
    with naming_keys(
        **{key: f"LT_DET.LOSS_PARAMS.{name.upper()}.{key.upper()}" for key in parameters}
    ):
        criterion = Criterion(name, class_weights=class_weights, **parameters)
    weighs_all = class_weights is not None and not criterion.mean_is_over_weights
    key = criterion.spec.weighs_classes_by
    if weighs_all and key and criterion.hyperparameters[key]:
        logger.warning(
            "LT_DET.CLASS_WEIGHTS multiply the bonus of %s, which LT_DET.LOSS_PARAMS.%s.%s %s "
            "weighs by class already: set %s 0.0, or the release's EL+CB, "
            "LT_DET.CLASS_WEIGHTS.DENOMINATOR weights",
            name,
            name.upper(),
            key.upper(),
            criterion.hyperparameters[key],
            key.upper(),
        )
    # No function of this one's own: a model with it could not be pickled.
    spec = criterion.spec
    criterion.load_counts = functools.partial(_load_counts, build_task(cfg), spec=spec)
    if spec.draws:
        criterion.draws = Draws(_build_seed(cfg), storage_iteration)
    return criterion


def _load_counts(task: Task, *, spec: LossSpec) -> tuple[Tensor, int]:
    background = task.has_background and spec.counts_background
    return bound_counts(task.class_stats(), kind=spec.kind, unit=task.unit, background=background)


def build_prior(cfg: Any) -> dict[str, Any]:
    """Return "prior_prob" (float) and "prior_counts" (``(K,)`` or None) of sigmoid classifiers.

    Reads LT_DET.PRIOR_PROB and LT_DET.PRIOR. Where the training set is absent there is nothing
    to train either: the counts are then None, and the weights to load bring their own bias.

    Raises:
        ValueError: if LT_DET.PRIOR is unknown.
    """
    prior, prior_counts = cfg.LT_DET.PRIOR, None
    if prior not in ("constant", "class"):
        raise ValueError(f"LT_DET.PRIOR must be 'constant' or 'class', got {prior!r}")
    if prior == "class":
        task = build_task(cfg)
        try:
            stats = task.class_stats() if task.counted_sets else None
        except (KeyError, OSError) as error:
            logger.info("training set: %s", error)
            stats = None
        if stats is None:
            logger.warning("LT_DET.PRIOR 'class' without its training set: bias of PRIOR_PROB")
        else:
            prior_counts, _ = bound_counts(stats, kind="sigmoid", unit=task.unit)
    return {"prior_prob": float(cfg.LT_DET.PRIOR_PROB), "prior_counts": prior_counts}
