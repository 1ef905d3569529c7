"""Wrap a model so that its training forward also takes the meta step.

Wrapping the model instead of the loop keeps Detectron2's trainers (plain, AMP) as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from lt_det.engine.regions.tap import RegionTap, TappedStage
from lt_det.losses.image_lists import without_hidden
from lt_det.losses.state import frozen_states
from lt_det.meta.hypergradient import Regions
from lt_det.meta.meta_learner import ClassifierStage, MetaLearner
from lt_det.modeling.classifiers.classification_head import ClassificationHead
from lt_det.modeling.classifiers.image_classifier import ImageLogits
from lt_det.modeling.trainer_keys import obeyed

#: Returns the regions of one meta batch, one item for each classifier.
MetaBatches = Callable[[], Sequence[Regions]]


class MetaStepModel(nn.Module):
    """``model`` with a meta learner: psi moves before each real step.

    In training, one forward of the model serves both levels: its features give the inner step,
    psi moves, and the same regions, weighted by the new psi where it is weights that are learned,
    give the real step. In evaluation it is ``model``.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        meta: MetaLearner,
        meta_batches: MetaBatches,
        optimizer: torch.optim.Optimizer,
        interval: int = 1,
        meta_loss: str = "plain",
        whole_network: bool = False,
    ) -> None:
        """Wrap a model, which may be wrapped in DDP already.

        Args:
            model: gives a dict of losses in training.
            meta: Meta Reweighter or Meta Sampler; not part of this module's state (the trainer
                checkpoints it).
            meta_batches: regions to compute the meta loss on.
            optimizer: of the classifier.
            interval: psi moves every so many iterations.
            meta_loss: "plain" (paper), see :meth:`BaseCriterion.plain_row_losses`, or "balanced"
                (release), the loss itself.
            whole_network: the inner step is that of all parameters and not of the classifier
                alone; for image classifiers.

        Raises:
            ValueError: if ``meta_loss`` or ``interval`` is out of range, a loss has no plain one,
                or is divided by the sum of its class weights.
        """
        super().__init__()
        if meta_loss not in ("plain", "balanced"):
            raise ValueError(f"LT_DET.META.LOSS must be 'plain' or 'balanced', got {meta_loss!r}")
        if interval < 1:
            raise ValueError(f"LT_DET.META.INTERVAL must be at least 1, got {interval}")
        self.model = model
        self.meta = meta
        self._meta_batches, self._optimizer = meta_batches, optimizer
        self._interval, self._meta_loss = interval, meta_loss
        self._whole_network = whole_network
        obeyed(model, "LT_DET.META.ENABLED")
        for stage in RegionTap(model).stages:
            criterion, background = stage.predictor.criterion, stage.predictor.has_background
            if meta_loss == "plain" and not criterion.has_plain_loss(background=background):
                raise ValueError(
                    "LT_DET.META.LOSS 'plain' needs a loss with scores by softmax or sigmoid, or "
                    f"with 'plain' in its row of the loss table; LT_DET.LOSS {criterion.name!r} "
                    f"scores by {criterion.scoring(background=background)!r}: set LT_DET.META.LOSS "
                    "'balanced'"
                )
            if criterion.mean_is_over_weights:
                raise ValueError(
                    "the meta learner's inner step divides the loss by the rows, as the real step "
                    "must: set LT_DET.CLASS_WEIGHTS.DENOMINATOR 'rows', got 'weights'"
                )
            if meta.weighs_losses:
                stage.predictor.region_weighting = meta.weigh

    def forward(self, data: Any) -> Any:
        """Return what ``model`` returns; in training with re-weighted classification losses."""
        if not self.training:
            return self.model(data)
        # Where the losses are computed again below, with weights, that is the step.
        is_step = not self.meta.weighs_losses
        with (
            nullcontext() if is_step else frozen_states(self.model),
            RegionTap(self.model) as stages,
        ):
            losses = self.model(data)
        if get_event_storage().iter % self._interval == 0:
            self._move_psi(stages, data)
        if not self.meta.weighs_losses:
            return losses
        keys = [key for key in losses if key.startswith("loss_cls")]
        if len(keys) != len(stages):
            raise RuntimeError(
                f"expected one loss_cls* for each of the {len(stages)} classifiers, got {keys}"
            )
        for key, stage in zip(keys, stages):
            losses[key] = stage.predictor.classification_loss(
                stage.logits, stage.labels, regions_per_image=stage.regions_per_image
            )
        return losses

    def _move_psi(self, stages: Sequence[TappedStage], data: Any) -> None:
        meta_batches = self._meta_batches()
        # Outside of autocast: the step of a classifier is small beside its half-precision grain.
        device_type = stages[0].features.device.type
        with torch.autocast(device_type, enabled=False):
            if self._whole_network:
                steps = [self._network_stage(stages[0], data, meta_batches[0])]
            else:
                steps = [
                    self._stage(
                        stage.predictor,
                        stage.predictor.cls_score,
                        Regions(
                            stage.features,
                            stage.labels,
                            stage.predictor.hidden_classes(stage.labels, stage.regions_per_image),
                        ),
                        meta_batch,
                    )
                    for stage, meta_batch in zip(stages, meta_batches)
                ]
            self.meta.update(steps, self._optimizer)

    def _network_stage(self, stage: TappedStage, data: Any, meta_batch: Regions) -> ClassifierStage:
        model: Any = stage.predictor
        images = Regions(model.images(data), stage.labels)
        return self._stage(model, ImageLogits(model), images, meta_batch)

    def _stage(
        self,
        head: ClassificationHead,
        classifier: nn.Module,
        regions: Regions,
        meta_regions: Regions,
    ) -> ClassifierStage:
        criterion = head.criterion
        factor = head.loss_weight.get("loss_cls", 1.0)

        def seen(logits: Tensor, hidden: Tensor | None, value: float) -> Tensor:
            return without_hidden(head.trained_columns(logits), hidden, value=value)

        def row_losses(logits: Tensor, labels: Tensor) -> Tensor:
            # As the real step, so that the inner one is as long.
            losses = criterion.row_losses(
                seen(logits, regions.hidden, criterion.hidden_logit), labels
            )
            return losses if factor == 1.0 else factor * losses

        balanced, plain = criterion.row_losses, criterion.plain_row_losses
        of_meta = balanced if self._meta_loss == "balanced" else plain
        of_meta_hidden = (
            criterion.hidden_logit if of_meta is balanced else criterion.plain_hidden_logit
        )

        def meta_row_losses(logits: Tensor, labels: Tensor) -> Tensor:
            return of_meta(seen(logits, meta_regions.hidden, of_meta_hidden), labels)

        return ClassifierStage(
            classifier=classifier,
            regions=Regions(regions.features.float(), regions.labels),
            meta_regions=Regions(meta_regions.features.float(), meta_regions.labels),
            row_losses=row_losses,
            meta_row_losses=meta_row_losses,
        )
