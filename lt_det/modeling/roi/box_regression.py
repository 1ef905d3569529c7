"""Class-specific box regression that computes in training only the deltas of the loss.

Shape shorthand: R regions of the batch, K foreground classes, D features, F foreground regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Instances
from torch import Tensor, nn

from lt_det.data.warn_once import warn_once
from lt_det.modeling.roi.class_rows import class_rows, why_all_classes


class RegionDeltas:
    """The ``(R, K * n)`` box deltas of R regions, computed where they are asked for.

    n is 4, or 5 for rotated boxes.
    """

    def __init__(self, features: Tensor, layer: nn.Linear, *, num_classes: int) -> None:
        """Hold ``features`` (R, D) and the layer from D to K * n."""
        self._features, self._layer, self._num_classes = features, layer, num_classes

    def all_classes(self) -> Tensor:
        """Return ``(R, K * n)``."""
        return self._layer(self._features)

    def of_classes(self, rows: Tensor, classes: Tensor) -> Tensor:
        """Return ``(F, n)``: for each of F regions the deltas of one class.

        Args:
            rows: ``(F,)`` int64 in [0, R).
            classes: ``(F,)`` int64 in [0, K).
        """
        layer = self._layer
        weight = class_rows(layer.weight, classes, num_classes=self._num_classes)  # (F, n, D)
        features = self._features.index_select(0, rows)[:, :, None]  # (F, D, 1)
        if layer.bias is None:
            return torch.bmm(weight, features)[:, :, 0]
        bias = class_rows(layer.bias, classes, num_classes=self._num_classes)  # (F, n)
        return torch.baddbmm(bias[:, :, None], weight, features)[:, :, 0]


#: logits, and box deltas of all classes or what gives them
Predictions = tuple[Tensor, Tensor | RegionDeltas]


def all_classes(predictions: Predictions) -> tuple[Tensor, Tensor]:
    """Return logits and the ``(R, K * 4)`` deltas, computed now if they were not yet."""
    logits, deltas = predictions
    return logits, deltas if isinstance(deltas, Tensor) else deltas.all_classes()


class ByClassBoxRegression(FastRCNNOutputLayers):
    """:class:`FastRCNNOutputLayers` that can skip the box deltas that no loss reads.

    Attributes:
        fast_box_regression: in training, compute the deltas of foreground regions and their
            classes only. Loss and gradients are equal to rounding (1e-6), hence not the default,
            with which they are Detectron2's to the last bit. Where the layer is not a plain one,
            all are computed and the log says so once.
    """

    bbox_pred: nn.Linear

    def __init__(
        self, input_shape: ShapeSpec | int, *, fast_box_regression: bool = False, **kwargs: Any
    ) -> None:
        """Build Detectron2's layers.

        Args:
            input_shape: shape of the box head's output.
            fast_box_regression: see above.
            kwargs: see :class:`FastRCNNOutputLayers`.
        """
        super().__init__(input_shape, **kwargs)
        self.fast_box_regression = fast_box_regression

    def forward(self, x: Tensor) -> Predictions:
        """Return logits and box deltas of ``(R, ...)`` region features."""
        if not (self.training and self._deltas_by_region()):
            return super().forward(x)
        x = x.flatten(1)
        return self.cls_score(x), RegionDeltas(x, self.bbox_pred, num_classes=self.num_classes)

    def _deltas_by_region(self) -> bool:
        if not self.fast_box_regression:
            return False
        if self.bbox_pred.out_features == len(self.box2box_transform.weights):
            return False  # class-agnostic: there is nothing to save
        reason = why_all_classes(self.bbox_pred, types=(nn.Linear,))
        if reason:
            warn_once(f"FAST_BOX_REGRESSION computes the deltas of all classes: {reason}")
        return not reason

    def box_loss(
        self, deltas: Tensor | RegionDeltas, labels: Tensor, proposals: list[Instances]
    ) -> Tensor:
        """Return Detectron2's box loss, a scalar: summed over foreground, divided by all R regions.

        Args:
            deltas: of :meth:`forward`.
            labels: ``(R,)`` int64 in [0, K], R above 0.
            proposals: with fields ``proposal_boxes`` and, where there is foreground, ``gt_boxes``.
        """
        boxes = torch.cat([p.proposal_boxes.tensor for p in proposals])
        # Without ground truth all regions are background and have no box loss, whatever is here.
        gt_boxes = torch.cat(
            [(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals]
        )
        if isinstance(deltas, Tensor):
            return self.box_reg_loss(boxes, gt_boxes, deltas, labels)
        rows = ((labels >= 0) & (labels < self.num_classes)).nonzero()[:, 0]
        classes = labels[rows]
        # Of one class each, which is what Detectron2 takes for class-agnostic deltas.
        found = deltas.of_classes(rows, classes)
        loss = self.box_reg_loss(boxes[rows], gt_boxes[rows], found, classes)
        # Divided by the foreground, but wanted by all regions.
        return loss * (len(rows) / len(labels))

    def predict_boxes(
        self, predictions: Predictions, proposals: list[Instances]
    ) -> Sequence[Tensor]:
        """Return, for each image, ``(Ri, K * 4)`` boxes, or ``(Ri, 4)`` class-agnostic ones."""
        return super().predict_boxes(all_classes(predictions), proposals)

    def predict_boxes_for_gt_classes(
        self, predictions: Predictions, proposals: list[Instances]
    ) -> Sequence[Tensor]:
        """Return, for each image, the ``(Ri, 4)`` boxes of the regions' own classes."""
        return super().predict_boxes_for_gt_classes(all_classes(predictions), proposals)
