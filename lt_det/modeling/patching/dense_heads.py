"""Patch dense detectors of any project (RetinaNet, FCOS) with a loss of this package."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.structures import Instances
from torch import Tensor, nn

from lt_det.losses.base_criterion import BaseCriterion
from lt_det.losses.targets import one_hot_targets
from lt_det.modeling.dense.losses import DenseLosses, foreground_losses, listed_logits
from lt_det.modeling.patching.loss import Logits
from lt_det.modeling.patching.overrides import Patch
from lt_det.modeling.patching.probe import classification_key
from lt_det.modeling.postprocessing.choice import is_recorded
from lt_det.modeling.postprocessing.dense import dense_detections

#: Their losses, but for the classification loss, are of foreground anchors only.
_STOCK_LOSSES = (RetinaNet.losses, FCOS.losses)
_STOCK_INFERENCE = (RetinaNet.inference_single_image, FCOS.inference_single_image)


class PatchedDense(Patch):
    """Patch of a dense detector: replaces its classification loss."""

    criterion: BaseCriterion
    _detector: Any

    def __init__(self, detector: nn.Module, *, where: str) -> None:
        """Describe ``detector``; :meth:`take` changes it."""
        super().__init__()
        num_classes: Any = detector.num_classes
        self.logits = Logits(where, num_classes, num_classes, "sigmoid")
        self.__dict__["_detector"] = detector
        self._normalizer: float | None = None

    def take(self, criterion: BaseCriterion) -> None:
        """Put ``criterion`` in the place of the detector's own classification loss."""
        self.criterion = criterion
        self.attach(self._detector)
        self.override(self._detector, "losses", self.losses)
        self.override(self._detector, "_ema_update", self._ema_update)

    def losses(
        self,
        anchors: Any,
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
        *others: Any,
    ) -> dict[str, Tensor]:
        """Return the detector's own losses, the classification loss replaced."""
        self._normalizer = None
        own = self.own(self._detector, "losses")
        arguments = (anchors, pred_logits, gt_labels, pred_anchor_deltas, gt_boxes, *others)
        if getattr(own, "__func__", None) in _STOCK_LOSSES:
            losses = foreground_losses(own, *arguments, num_classes=self.logits.num_classes)
        else:
            losses = own(*arguments)
        if self._normalizer is None:
            raise RuntimeError(
                f"{self.logits.where} does not call DenseDetector._ema_update, which its loss is "
                "divided by: its losses cannot be patched"
            )
        labels = torch.stack(gt_labels)
        valid = labels >= 0
        logits = listed_logits(self.criterion, torch.cat(pred_logits, dim=1), labels)
        targets = one_hot_targets(
            labels[valid], num_classes=self.logits.num_classes, dtype=logits.dtype
        )
        with self.criterion.step(logits, targets):
            loss = self.criterion(logits, targets, reduction="sum") / self._normalizer
        return {**losses, classification_key(losses, where=self.logits.where): loss}

    def _ema_update(self, *args: Any, **kwargs: Any) -> float:
        self._normalizer = self.own(self._detector, "_ema_update")(*args, **kwargs)
        return self._normalizer

    def why_own_post_processing(self) -> str:
        """Return why this package's post-processing cannot take its place, or ""."""
        theirs = type(self._detector).inference_single_image not in _STOCK_INFERENCE
        name = type(self._detector).__name__
        return f"{name} has its own inference_single_image" if theirs else ""

    def take_post_processing(self) -> None:
        """Find detections by this package's post-processing."""
        self.override(self._detector, "inference_single_image", self._inference)

    def _inference(
        self, anchors: Any, box_cls: Any, box_delta: Any, image_size: tuple[int, int]
    ) -> Instances:
        detector = self._detector
        found = None
        # Detectron2 takes a negative limit as the end of a slice: that is left to it.
        if detector.max_detections_per_image >= 0 and not is_recorded():
            found = dense_detections(
                anchors,
                box_cls,
                box_delta,
                image_size,
                box2box_transform=detector.box2box_transform,
                score_threshold=detector.test_score_thresh,
                topk_candidates=detector.test_topk_candidates,
                iou_threshold=detector.test_nms_thresh,
                limit=detector.max_detections_per_image,
            )
        if found is not None:
            return found
        own = self.own(detector, "inference_single_image")
        return own(anchors, box_cls, box_delta, image_size)


def find_dense(model: nn.Module) -> list[PatchedDense]:
    """Return a description of each dense detector in ``model``; change nothing."""
    return [
        PatchedDense(module, where=type(module).__name__ + (f" ({name})" if name else ""))
        for name, module in model.named_modules()
        if isinstance(module, DenseDetector) and not isinstance(module, DenseLosses)
    ]
