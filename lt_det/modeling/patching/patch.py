"""Replace the training loss of an existing model, and put it back."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lt_det.data.annotations.datasets import class_stats_of
from lt_det.data.stats.class_stats import ClassStats, Unit
from lt_det.losses.base_criterion import BaseCriterion
from lt_det.losses.criterion import Criterion
from lt_det.modeling.classifiers.classification_head import ClassificationHead
from lt_det.modeling.classifiers.image_classifier import LongTailImageClassifier
from lt_det.modeling.dense.losses import DenseLosses
from lt_det.modeling.patching.box_heads import PatchedBoxHead, find_box_heads
from lt_det.modeling.patching.dense_heads import PatchedDense, find_dense
from lt_det.modeling.patching.loss import Logits, check_fits, create_loss, fit
from lt_det.modeling.patching.overrides import Patch, patches

logger = logging.getLogger(__name__)


class PatchedHead(Patch):
    """Patch of a head of this package: replaces its criterion."""

    def __init__(self, head: Any, *, where: str) -> None:
        """Describe ``head``; :meth:`take` changes it."""
        super().__init__()
        self.__dict__["_head"] = head
        kind = head.criterion.kind
        if isinstance(head, LongTailImageClassifier):
            classes = int(head.cls_score.out_features)
            self.logits = Logits(where, classes, classes)
        else:
            columns = head.num_classes + getattr(head, "num_other_columns", 0)
            self.logits = Logits(where, head.num_classes, columns, kind)

    def take(self, criterion: BaseCriterion) -> None:
        """Put ``criterion`` in the place of the head's own."""
        self.attach(self.__dict__["_head"])
        self.override(self.__dict__["_head"], "criterion", criterion)

    def why_own_post_processing(self) -> str:
        """Return "": a head of this package has its post-processing already."""
        return ""

    def take_post_processing(self) -> None:
        """Do nothing: the head has it already."""


def patch(
    model: nn.Module,
    loss: BaseCriterion | str,
    *,
    dataset: str | Sequence[str] | None = None,
    stats: ClassStats | None = None,
    unit: Unit = "image",
    post_processing: bool = False,
    **params: Any,
) -> nn.Module:
    """Replace the classification loss of a model, in place; return the model.

    The model keeps its predictors: the objects and their classes, parameters, ``state_dict`` keys,
    ``forward``, ``inference`` and ``predict_probs``; box and mask losses are its own. It may have
    Standard, Cascade, Res5 or PointRend ROI heads, or be a RetinaNet or FCOS, of Detectron2 or
    derived from it. A second patch replaces the first; :func:`unpatch` restores what was there.

    K class counts are enough: where the model has a background column, its prior is added to
    ``loss``, in place.

    Args:
        model: built already.
        loss: name of a loss, or a loss such as :func:`create_loss` returns.
        dataset: registered training set, or several; its classes are counted.
        stats: those counts, if they are known.
        unit: count images, or instances.
        post_processing: find the detections, the same ones, by this package's code, which is
            faster with many classes.
        params: hyper-parameters, where ``loss`` is a name.

    Raises:
        KeyError: if there is no such loss or data set.
        ValueError: if the model has no head that can be patched, its logits cannot be found, the
            loss needs other columns or scores than it has, class counts are missing or of another
            number of classes, or ``post_processing`` would replace code of the model's own.
        TypeError: if ``loss`` is neither a name nor a loss.
    """
    if stats is None and dataset is not None:
        stats = class_stats_of([dataset] if isinstance(dataset, str) else list(dataset))
    criterion = _as_criterion(loss, stats, unit=unit, params=params)
    earlier = patches(model)
    unpatch(model)
    try:
        found = find_heads(model)
        for head in found:
            _check_classes(stats, head.logits)
            check_fits(criterion, head.logits)
            reason = head.why_own_post_processing() if post_processing else ""
            if reason:
                raise ValueError(
                    f"post_processing must be False: {reason}, which a patch keeps "
                    f"({head.logits.where})"
                )
    except Exception:
        for before in earlier:
            before.redo()
        raise
    for head in found:
        fit(criterion, head.logits)
        head.take(criterion)
        if post_processing:
            head.take_post_processing()
    logger.info("loss %s in %s", criterion.name, ", ".join(h.logits.where for h in found))
    return model


def unpatch(model: nn.Module) -> nn.Module:
    """Put back the loss that :func:`patch` replaced, in place; return the model.

    A model without a patch stays as it is.
    """
    for found in reversed(patches(model)):
        found.undo()
    return model


AnyPatch = PatchedBoxHead | PatchedDense | PatchedHead


def find_heads(model: nn.Module) -> list[AnyPatch]:
    """Return a description of each head of ``model`` that can be patched; change nothing.

    Raises:
        ValueError: if there is none, or the logits of one cannot be found.
    """
    ours = [m for m in model.modules() if isinstance(m, (ClassificationHead, DenseLosses))]
    names = {id(module): name for name, module in model.named_modules()}
    found: list[AnyPatch] = [
        PatchedHead(m, where=type(m).__name__ + (f" ({names[id(m)]})" if names[id(m)] else ""))
        for m in ours
    ]
    found += [*find_box_heads(model), *find_dense(model)]
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no head that can be patched: expected ROI heads with a "
            "box_predictor, or a DenseDetector of Detectron2 (RetinaNet, FCOS)"
        )
    return found


def _as_criterion(
    loss: BaseCriterion | str, stats: ClassStats | None, *, unit: Unit, params: dict[str, Any]
) -> BaseCriterion:
    if isinstance(loss, str):
        return create_loss(loss, stats, unit=unit, **params)
    if not isinstance(loss, BaseCriterion):
        raise TypeError(
            "loss must be the name of a loss or what create_loss returns, got "
            f"{type(loss).__name__}"
        )
    if params:
        raise ValueError(
            f"{sorted(params)} are parameters of a loss that is given by name; set them in "
            "create_loss"
        )
    if stats is not None:
        for part in loss.modules():
            if isinstance(part, Criterion):
                part.bind(torch.from_numpy(stats.counts(unit)), stats.num_images)
    return loss


def _check_classes(stats: ClassStats | None, logits: Logits) -> None:
    if stats is not None and stats.num_classes != logits.num_classes:
        raise ValueError(
            f"data set {stats.name!r} has {stats.num_classes} classes, {logits.where} has "
            f"{logits.num_classes}: build the model with {stats.num_classes}"
        )
