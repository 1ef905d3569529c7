"""Dense detectors of Detectron2 with any sigmoid-kind loss of the loss table.

Shape shorthand: N images, R anchors of an image, K foreground classes; label K is the background,
-1 is ignored. Box regression, inference and parameter names are Detectron2's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes
from detectron2.utils import comm
from torch import Tensor

from lt_det.losses.base_criterion import BaseCriterion
from lt_det.losses.targets import one_hot_targets
from lt_det.modeling.classifiers.layers import class_prior_bias

Normalizer = Literal["global", "stock"]


def check_dense(criterion: BaseCriterion, where: str) -> None:
    """Raise unless ``criterion`` is for K sigmoid scores of an anchor.

    Args:
        criterion: the loss.
        where: name of the detector, for messages.

    Raises:
        ValueError: names the loss and what it needs.
    """
    if criterion.kind != "sigmoid":
        raise ValueError(
            f"{where} needs a loss of kind 'sigmoid', got {criterion.name!r} of kind "
            f"{criterion.kind!r} (LT_DET.LOSS)"
        )
    scoring, extra = criterion.scoring(background=False), criterion.extra_columns(background=False)
    if scoring != "sigmoid" or extra:
        needs = [f"the scores {scoring!r}", *(f"the column {name!r}" for name in extra)]
        raise ValueError(
            f"{where} scores K columns by the sigmoid; loss {criterion.name!r} needs "
            f"{' and '.join(needs)}: take another loss (LT_DET.LOSS)"
        )


class DenseLosses(DenseDetector):
    """Mixin that replaces the classification loss of a dense detector; goes first in the bases.

    Attributes:
        criterion: the loss of each anchor and class.
    """

    #: Name of the classification loss among those of the detector.
    classification_loss: str
    loss_normalizer: Any

    def __init__(
        self,
        *,
        criterion: BaseCriterion,
        normalizer: Normalizer = "global",
        prior_counts: Tensor | Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Build the detector and hold ``criterion``.

        Args:
            criterion: loss of kind "sigmoid".
            normalizer: the moving average of foreground anchors that divides the losses.
                "global": of all processes, and in the checkpoint. "stock": of each process by
                itself, and lost on resume, as Detectron2 has it.
            prior_counts: ``(K,)`` class counts, or a list; if given, the starting scores are in
                proportion to them and the head's prior is their mean, see
                :func:`~lt_det.modeling.classifiers.layers.class_prior_bias`.
            kwargs: of the detector.

        Raises:
            ValueError: if the criterion is of another kind, ``normalizer`` unknown, or a count
                not positive and finite.
        """
        check_dense(criterion, type(self).__name__)
        if normalizer not in ("global", "stock"):
            raise ValueError(
                "normalizer (LT_DET.RETINANET.NORMALIZER) must be 'global' or 'stock', got "
                f"{normalizer!r}"
            )
        super().__init__(**kwargs)
        self.criterion = criterion
        criterion.fit_head(self.num_classes, background=False)
        if prior_counts is not None:
            bias = self.head.cls_score.bias
            mean_prior = float(bias.double().sigmoid().mean())
            # One channel for each anchor and class, classes running faster.
            counts = torch.tensor([float(count) for count in prior_counts], dtype=torch.float64)
            if counts.numel() != self.num_classes:
                raise ValueError(
                    f"prior_counts must have one number for each of the {self.num_classes} "
                    f"classes, got {counts.numel()}"
                )
            per_class = class_prior_bias(counts, prior_prob=mean_prior)
            with torch.no_grad():
                bias.copy_(per_class.repeat(bias.numel() // per_class.numel()))
        self._num_foreground: Tensor | None = None
        self._last_normalizer: float | None = None
        if normalizer == "global":
            # float64, as the Python float it replaces; 0 until the first batch.
            self.register_buffer("loss_normalizer", torch.zeros((), dtype=torch.float64))

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Any],
        *others: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return the detector's losses, scalars; arguments as it has them."""
        labels = torch.stack(gt_labels)
        foreground = (labels >= 0) & (labels != self.num_classes)
        self._num_foreground, self._last_normalizer = foreground.sum(), None
        losses = foreground_losses(
            super().losses,
            anchors,
            pred_logits,
            gt_labels,
            pred_anchor_deltas,
            gt_boxes,
            *others,
            num_classes=self.num_classes,
        )
        if self._last_normalizer is None:
            raise RuntimeError(
                "this version of Detectron2 does not call DenseDetector._ema_update, which "
                f"{type(self).__name__} takes the normalizer from; use another version"
            )
        valid = labels >= 0
        logits = listed_logits(self.criterion, torch.cat(pred_logits, dim=1), labels)
        targets = one_hot_targets(labels[valid], num_classes=self.num_classes, dtype=logits.dtype)
        # By foreground anchors, not by all: nearly all are easy background.
        with self.criterion.step(logits, targets):
            loss = self.criterion(logits, targets, reduction="sum") / self._last_normalizer
        return {**losses, self.classification_loss: loss}

    def _ema_update(
        self, name: str, value: float, initial_value: float, momentum: float = 0.9
    ) -> float:
        buffer = self._buffers.get(name)
        if buffer is None:
            self._last_normalizer = super()._ema_update(name, value, initial_value, momentum)
            return self._last_normalizer
        ranks = comm.get_world_size()
        if ranks > 1 and self._num_foreground is not None:
            # Not ``value``: that is at least 1 in each process, where there may be none.
            total = self._num_foreground.clone()
            torch.distributed.all_reduce(total)
            value = max(int(total), 1)
        new = (float(buffer) or initial_value) * momentum + value * (1 - momentum)
        buffer.fill_(new)
        # DDP averages the gradients of the ranks, where one process sums over the union.
        self._last_normalizer = new / ranks
        return self._last_normalizer

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        buffer = self._buffers.get("loss_normalizer")
        if buffer is not None:
            # Checkpoints of Detectron2 have none: keep what there is.
            state_dict.setdefault(f"{prefix}loss_normalizer", buffer.clone())
        else:
            state_dict.pop(f"{prefix}loss_normalizer", None)
        super()._load_from_state_dict(state_dict, prefix, *args)


def listed_logits(criterion: BaseCriterion, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the ``(A, K)`` logits of the anchors that are not ignored, hidden by image lists.

    Args:
        criterion: whose ``image_lists`` count, if it has them.
        logits: ``(N, R, K)``.
        labels: ``(N, R)``.
    """
    valid = labels >= 0
    lists = criterion.image_lists
    if lists is None:
        return logits[valid]
    images = torch.arange(labels.shape[0], device=labels.device)[:, None].expand_as(labels)
    value = criterion.hidden_logit
    return lists.hide(logits[valid], labels[valid], images[valid], value=value)


def foreground_losses(
    losses: Callable[..., dict[str, Tensor]],
    anchors: list[Boxes],
    pred_logits: list[Tensor],
    gt_labels: list[Tensor],
    pred_anchor_deltas: list[Tensor],
    gt_boxes: list[Any],
    *others: list[Tensor],
    num_classes: int,
) -> dict[str, Tensor]:
    """Return Detectron2's dense losses, all right but for the classification loss.

    All others look at foreground anchors only, so these are all that ``losses`` gets: a
    classification loss that is to be replaced costs nothing.

    Args:
        losses: the detector's method; the other arguments are its own.
        anchors: of each level.
        pred_logits: of each level.
        gt_labels: of each image.
        pred_anchor_deltas: of each level.
        gt_boxes: of each image.
        others: of each level.
        num_classes: K.
    """
    labels = torch.stack(gt_labels)
    at = ((labels >= 0) & (labels != num_classes)).any(dim=0).nonzero()[:, 0]
    return losses(
        [Boxes.cat(anchors)[at]],
        [torch.cat(pred_logits, dim=1).detach()[:, at]],
        [image[at] for image in gt_labels],
        [torch.cat(pred_anchor_deltas, dim=1)[:, at]],
        [image[at] for image in gt_boxes],
        *([torch.cat(levels, dim=1)[:, at]] for levels in others),
    )
