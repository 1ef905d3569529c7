"""Base of all trained classifiers: box predictors and image classifiers.

Decoupled training, the meta learners and the region cache work on this, whatever model it is in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from lt_det.losses.base_criterion import BaseCriterion
from lt_det.losses.image_lists import image_of_region
from lt_det.modeling.classifiers.posthoc import PostHocCorrection

#: labels (R,) -> weights (R,)
RegionWeighting = Callable[[Tensor], Tensor]
#: logits, labels (R,), regions of each image -> None
LossObserver = Callable[[Tensor, Tensor, Sequence[int]], None]


class ClassificationHead(nn.Module):
    """A classifier ``cls_score`` with its criterion.

    Shape shorthand: R regions of a batch; an image classifier has one an image, the whole.

    Attributes:
        cls_score: features ``(R, D)`` -> logits.
        criterion: the loss of each region.
        region_weighting: if set, weighs the regions' losses (the Meta Reweighter sets it). A plain
            attribute: it is neither a parameter nor in a checkpoint of the model.
        loss_observer: if set, is called with the logits and labels of each training batch.
        loss_weight: factor of "loss_cls"; 1 where it is missing.
        has_background: whether the last logit is the background's.
        post_hoc: if set, changes the logits at inference.
    """

    cls_score: nn.Module
    criterion: BaseCriterion
    region_weighting: RegionWeighting | None = None
    loss_observer: LossObserver | None = None
    loss_weight: Mapping[str, float] = {}
    has_background: bool = False
    post_hoc: PostHocCorrection | None = None

    @property
    def num_other_columns(self) -> int:
        """Number of the logits' columns after those of the K classes; the background is last."""
        return int(self.has_background)

    @property
    def feature_module(self) -> nn.Module:
        """The module whose first input is that of :attr:`cls_score`."""
        return self.cls_score

    def trained_columns(self, logits: Tensor) -> Tensor:
        """Return the columns of ``(R, C)`` logits that the loss is of; all of them."""
        return logits

    def inference_logits(self, logits: Tensor) -> Tensor:
        """Return the logits ``(R, C)`` to predict from: corrected, if there is a correction."""
        if self.post_hoc is None:
            return logits
        others = self.num_other_columns
        if others < 2:
            return self.post_hoc(logits, self.cls_score, background=self.has_background)
        classes, rest = logits[:, :-others], logits[:, -others:]
        corrected = self.post_hoc(classes, self.cls_score, background=False)
        return torch.cat([corrected, rest.to(corrected)], dim=1)

    def hidden_classes(self, labels: Tensor, regions_per_image: Sequence[int]) -> Tensor | None:
        """Return ``(R, K)`` bool, what the lists of the batch at hand hide; None without lists.

        Args:
            labels: ``(R,)`` int64 in [0, K].
            regions_per_image: how the R regions are distributed over images.
        """
        lists = self.criterion.image_lists
        if lists is None:
            return None
        images = image_of_region(regions_per_image, num_images=lists.num_images, like=labels)
        return lists.hidden(labels, images)

    def classification_loss(
        self, logits: Tensor, labels: Tensor, *, regions_per_image: Sequence[int] = ()
    ) -> Tensor:
        """Return the scalar training loss: losses of the regions, weighted, over all R.

        It is one training step of the loss: a running state moves.

        Args:
            logits: as ``cls_score`` gives them.
            labels: ``(R,)`` int64 in [0, K].
            regions_per_image: handed on to the observer; says which image lists a region obeys.
        """
        if self.loss_observer is not None:
            self.loss_observer(logits, labels, regions_per_image)
        logits = self.trained_columns(logits)
        lists = self.criterion.image_lists
        if lists is not None:
            images = image_of_region(regions_per_image, num_images=lists.num_images, like=labels)
            logits = lists.hide(logits, labels, images, value=self.criterion.hidden_logit)
        with self.criterion.step(logits, labels):
            # Over all R regions, background included: each region weighs the same in every batch.
            if self.region_weighting is None:
                loss = self.criterion.mean_loss(logits, labels)
            else:
                losses = self.criterion.row_losses(logits, labels)
                weights = self.region_weighting(labels).to(losses)
                loss = (losses * weights).sum() / max(labels.numel(), 1)
        return loss * self.loss_weight.get("loss_cls", 1.0)


def classification_heads(model: nn.Module) -> Iterator[ClassificationHead]:
    """Yield the classification heads of ``model``: one, or one a cascade stage."""
    for module in model.modules():
        if isinstance(module, ClassificationHead):
            yield module
