"""A model whose training forward also takes the meta step.

Wrapping the model instead of the loop keeps Detectron2's trainers (plain, AMP) as they are.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

import torch
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from lt_det.engine.region_tap import RegionTap
from lt_det.losses import PLAIN_LOSS
from lt_det.losses.criterion import Criterion
from lt_det.meta.hypergradient import Regions
from lt_det.meta.meta_learner import ClassifierStage
from lt_det.meta.meta_reweighter import MetaReweighter
from lt_det.modeling.box_predictor import LongTailOutputLayers

#: Returns the regions of one meta batch, one item for each classifier.
MetaBatches = Callable[[], Sequence[Regions]]


class ReweightedModel(nn.Module):
    """``model`` with the class weights of a :class:`MetaReweighter` in its classification loss.

    In training, one forward of the detector serves both levels: its region features give the
    inner step, psi moves, and the same regions, weighted by the new psi, give the real step.
    In evaluation it is ``model``.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        meta: MetaReweighter,
        meta_batches: MetaBatches,
        optimizer: torch.optim.Optimizer,
        interval: int = 1,
        meta_loss: str = "plain",
    ) -> None:
        """Wrap a model, which may be wrapped in DDP already.

        Args:
            model: gives a dict of losses in training.
            meta: class weights; not part of this module's state (the trainer checkpoints it).
            meta_batches: regions to compute the meta loss on.
            optimizer: of the classifier.
            interval: psi moves every so many iterations.
            meta_loss: "plain" (paper) or "balanced" (release).

        Raises:
            ValueError: if ``meta_loss`` or ``interval`` is out of range.
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
        for stage in RegionTap(model).stages:
            stage.predictor.region_weighting = meta.weigh

    def forward(self, data: Any) -> Any:
        """Return what ``model`` returns; in training with re-weighted classification losses."""
        if not self.training:
            return self.model(data)
        with RegionTap(self.model) as stages:
            losses = self.model(data)
        if get_event_storage().iter % self._interval == 0:
            self._move_psi(stages)
        keys = [key for key in losses if key.startswith("loss_cls")]
        if len(keys) != len(stages):
            raise RuntimeError(
                f"expected one loss_cls* for each of the {len(stages)} box predictors, got {keys}"
            )
        for key, stage in zip(keys, stages):
            losses[key] = stage.predictor.classification_loss(stage.logits, stage.labels)
        return losses

    def _move_psi(self, stages: Sequence[Any]) -> None:
        # Outside of autocast: the step of a classifier is small beside its half-precision grain.
        device_type = stages[0].features.device.type
        batches = self._meta_batches()
        with torch.autocast(device_type, enabled=False):
            self.meta.update(
                [
                    ClassifierStage(
                        classifier=stage.predictor.cls_score,
                        regions=Regions(stage.features.float(), stage.labels),
                        meta_regions=Regions(batch.features.float(), batch.labels),
                        row_losses=self._row_losses(stage.predictor),
                        meta_row_losses=self._meta_row_losses(stage.predictor),
                    )
                    for stage, batch in zip(stages, batches)
                ],
                self._optimizer,
            )

    @staticmethod
    def _row_losses(predictor: LongTailOutputLayers) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the losses of the real step, so that the inner one is as long."""
        factor = predictor.loss_weight.get("loss_cls", 1.0)
        if factor == 1.0:
            return predictor.criterion.row_losses
        return lambda logits, labels: factor * predictor.criterion.row_losses(logits, labels)

    def _meta_row_losses(
        self, predictor: LongTailOutputLayers
    ) -> Callable[[Tensor, Tensor], Tensor]:
        if self._meta_loss == "balanced":
            return predictor.criterion.row_losses
        return Criterion(PLAIN_LOSS[predictor.kind]).row_losses
