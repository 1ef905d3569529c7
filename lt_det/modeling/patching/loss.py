"""Create the loss of a data set, and fit it to the logits of a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from lt_det.data.stats.class_prior import counts_with_background
from lt_det.data.stats.class_stats import ClassStats, Unit
from lt_det.losses.base_criterion import BaseCriterion
from lt_det.losses.class_weights import ClassWeights
from lt_det.losses.criterion import Criterion

Scoring = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class Logits:
    """Facts about logits that a loss must know.

    Attributes:
        where: module that gives them, for messages.
        num_classes: K, foreground classes.
        columns: K, or K + 1 with the background last.
        scoring: how the module turns them into scores; None where that is not known.
    """

    where: str
    num_classes: int
    columns: int
    scoring: Scoring | None = None


def create_loss(
    name: str,
    stats: ClassStats | None = None,
    *,
    unit: Unit = "image",
    class_weights: ClassWeights | None = None,
    **params: Any,
) -> Criterion:
    """Return the loss ``name`` with the class counts of a data set.

    It has one count for each of the K foreground classes. A model with a background column adds
    that column's prior when it takes the loss (:func:`lt_det.modeling.patching.patch`).

    Args:
        name: row of the loss table :data:`lt_det.losses.LOSSES`.
        stats: of the training set; None for losses that need no counts.
        unit: count images, or instances.
        class_weights: weights by class that multiply the loss.
        params: hyper-parameters of the loss.

    Raises:
        KeyError: if there is no such loss.
        ValueError: if it has no such hyper-parameter, or needs counts and gets none, or needs
            shares of images and gets instances.
    """
    criterion = Criterion(name, class_weights=class_weights, **params)
    if stats is None:
        _check_bound(criterion)
        return criterion
    needed = criterion.spec.bound_arguments(**criterion.hyperparameters)
    if unit == "instance" and "num_images" in needed:
        raise ValueError(
            f"unit must be 'image' for loss {name!r}, which needs the share of images with a "
            "class, got 'instance'"
        )
    criterion.bind(torch.from_numpy(stats.counts(unit)), stats.num_images)
    return criterion


def check_kind(kind: str, name: str, logits: Logits) -> None:
    """Raise if a loss of ``kind`` is not for these logits.

    Raises:
        ValueError: names the loss, what it needs, what is there and what to do.
    """
    columns, k = logits.columns, logits.num_classes
    what = f"loss {name!r} of kind {kind!r}"
    if kind == "softmax" and columns != k + 1:
        raise ValueError(
            f"{what} needs {k + 1} columns, {k} classes and the background; {logits.where} gives "
            f"{columns}: take a loss of kind 'sigmoid'"
        )
    if kind == "sigmoid" and columns not in (k, k + 1):
        raise ValueError(
            f"{what} needs {k} columns, one a class; {logits.where} gives {columns}: set its "
            "number of classes"
        )
    if logits.scoring is not None and logits.scoring != kind:
        hint = (
            "build it with MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE True (LazyConfig: "
            "box_predictor.use_sigmoid_ce)"
            if kind == "sigmoid"
            else "build it with a softmax"
        )
        raise ValueError(
            f"{what} does not go with {logits.where}, which scores by {logits.scoring}: {hint}, or "
            f"take a loss of kind {logits.scoring!r}"
        )


def check_fits(criterion: BaseCriterion, logits: Logits) -> None:
    """Raise if ``criterion`` cannot be the loss of these logits; change nothing.

    Raises:
        ValueError: as :func:`check_kind`, or if counts are missing or of other classes.
    """
    check_kind(criterion.kind, criterion.name, logits)
    k = logits.num_classes
    background = criterion.kind == "softmax" and logits.columns > k
    scoring = criterion.scoring(background=background)
    extra = criterion.extra_columns(background=background)
    if scoring != criterion.kind or extra not in ((), ("background",)):
        own = ", ".join([scoring, *(f"the column {name!r}" for name in extra)])
        raise ValueError(
            f"loss {criterion.name!r} has scores or columns of its own ({own}); a patch keeps "
            f"those of {logits.where}: name heads of lt_det (MODEL.ROI_HEADS.NAME LongTailROIHeads)"
        )
    for part in _criteria(criterion):
        _check_bound(part)
        if part.class_counts is None:
            continue
        given = part.class_counts.numel()
        allowed = (k, k + 1) if part.spec.counts_background and logits.columns > k else (k,)
        if given not in allowed:
            wanted = " or ".join(map(str, allowed))
            raise ValueError(
                f"loss {part.name!r} has {given} class counts, {logits.where} has {k} classes: "
                f"give it {wanted} counts, those of the data set that the model is trained on"
            )


def fit(criterion: BaseCriterion, logits: Logits) -> None:
    """Tell ``criterion`` about the background column of these logits, in place.

    K counts become K + 1, see :func:`~lt_det.data.stats.class_prior.counts_with_background`; class
    weights leave the background alone.
    """
    has_background = criterion.kind == "softmax" and logits.columns > logits.num_classes
    criterion.fit_head(logits.num_classes, background=has_background)
    if not has_background:
        return
    for part in _criteria(criterion):
        if not part.spec.counts_background:
            continue
        if part.class_weights is not None:
            part.class_weights, part.weights = replace(part.class_weights, background=True), None
        counts = part.class_counts
        if counts is not None and counts.numel() == logits.num_classes:
            with_background = counts_with_background(np.asarray(counts.double().cpu()))
            part.class_counts = torch.from_numpy(with_background).to(counts.device)


def _check_bound(criterion: Criterion) -> None:
    """Raise if ``criterion`` needs numbers of a data set and has no way to get them."""
    if criterion.load_counts is not None:
        return
    needed = list(criterion.spec.bound_arguments(**criterion.hyperparameters))
    if criterion.class_weights is not None and not criterion.class_weights.values:
        needed.append("class_counts")
    missing = [n for n in ("class_counts", "num_images") if getattr(criterion, n) is None]
    missing = [n for n in missing if n in needed]
    if missing:
        raise ValueError(
            f"loss {criterion.name!r} needs {' and '.join(missing)} of the training set, got None: "
            "pass stats= to create_loss, or dataset= to patch"
        )


def _criteria(criterion: BaseCriterion) -> list[Criterion]:
    return [module for module in criterion.modules() if isinstance(module, Criterion)]
