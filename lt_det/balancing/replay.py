"""Find the detections of other classifiers in frozen images, without the detector.

Shape shorthand: R regions of the image, D features, K classes, C columns of the classifier.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from lt_det.balancing.frozen_images import FrozenImage, box_stages
from lt_det.modeling.postprocessing.roi import fast_rcnn_inference

#: For each stage the weights ``(C, D)`` and the bias ``(C,)``.
Classifiers = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class PostProcessing:
    """Limits of the detections of an image.

    Attributes:
        score_threshold: detections score higher.
        nms_threshold: IoU above which the better of two boxes of a class is kept.
    """

    score_threshold: float
    nms_threshold: float

    def row(self) -> dict[str, float]:
        """Return the columns of a table."""
        return {"score threshold": self.score_threshold, "NMS": self.nms_threshold}


class Replay:
    """The part of a detector that comes after the features of its regions."""

    def __init__(self, model: nn.Module) -> None:
        """Copy the predictors of ``model``, to the CPU, where frozen images are.

        Raises:
            ValueError: if it cannot be replayed.
        """
        self._stages: list[Any] = [copy.deepcopy(stage).cpu().eval() for stage in box_stages(model)]
        names = {id(module): name for name, module in model.named_modules()}
        self._names = [names[id(stage)] for stage in box_stages(model)]
        first = self._stages[-1]
        self.own = PostProcessing(float(first.test_score_thresh), float(first.test_nms_thresh))
        self.limit = int(first.test_topk_per_image)

    @property
    def kind(self) -> str:
        """How logits become scores: "softmax" or "sigmoid"."""
        last = self._stages[-1]
        sigmoid = getattr(last, "kind", "") == "sigmoid" or getattr(last, "use_sigmoid_ce", False)
        return "sigmoid" if sigmoid else "softmax"

    def own_classifiers(self) -> list[tuple[Tensor, Tensor]]:
        """Return copies of the classifiers that the detector was trained with."""
        return [
            (s.cls_score.weight.detach().cpu().clone(), s.cls_score.bias.detach().cpu().clone())
            for s in self._stages
        ]

    def state(self, classifiers: Classifiers) -> dict[str, Tensor]:
        """Return the entries of a checkpoint that these classifiers are."""
        return {
            f"{name}.cls_score.{part}": value
            for name, of_stage in zip(self._names, classifiers)
            for part, value in zip(("weight", "bias"), of_stage)
        }

    @torch.no_grad()
    def image(self, frozen: FrozenImage) -> Callable[..., list[Instances]]:
        """Return what finds the detections of an image, see :meth:`_detections`.

        What does not depend on the classifier is computed here, once.
        """
        last, features = self._stages[-1], frozen.features[-1]
        proposals = [_proposals(boxes, frozen.input_size) for boxes in frozen.boxes]
        deltas = last.bbox_pred(features)
        (boxes,) = last.predict_boxes((None, deltas), [proposals[-1]])

        def detections(
            classifiers: Classifiers, settings: Sequence[PostProcessing]
        ) -> list[Instances]:
            return self._detections(frozen, proposals, boxes, classifiers, settings)

        return detections

    @torch.no_grad()
    def _detections(
        self,
        frozen: FrozenImage,
        proposals: Sequence[Instances],
        boxes: Tensor,
        classifiers: Classifiers,
        settings: Sequence[PostProcessing],
    ) -> list[Instances]:
        """Return the detections with each of ``settings``, in pixels of the output."""
        of_stages = []
        for stage, features, (weight, bias), regions in zip(
            self._stages, frozen.features, classifiers, proposals
        ):
            logits = F.linear(features, weight, bias)
            of_stages.append(stage.predict_probs((logits, None), [regions])[0])
        scores = of_stages[0]
        if len(of_stages) > 1:  # as the cascade does, to the last bit
            scores = sum(of_stages) * (1.0 / len(of_stages))
        found = []
        for setting in settings:
            (instances,), _ = fast_rcnn_inference(
                [boxes],
                [scores],
                [frozen.input_size],
                setting.score_threshold,
                setting.nms_threshold,
                self.limit,
            )
            found.append(detector_postprocess(instances, *frozen.output_size))
        return found


def _proposals(boxes: Tensor, size: tuple[int, int]) -> Instances:
    proposals = Instances(size)
    proposals.proposal_boxes = Boxes(boxes)
    return proposals


def differs(one: Instances, other: Instances) -> bool:
    """Return whether the boxes, scores or classes of two sets of detections are not the same."""
    return len(one) != len(other) or not all(
        torch.equal(a.cpu(), b.cpu())
        for a, b in (
            (one.pred_boxes.tensor, other.pred_boxes.tensor),
            (one.scores, other.scores),
            (one.pred_classes, other.pred_classes),
        )
    )
