"""RetinaNet with any sigmoid-kind loss of the loss table.

Shape shorthand: N images, R anchors of an image, K foreground classes; label K is the background,
-1 is ignored. Box regression, inference and parameter names are Detectron2's.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.structures import Boxes
from detectron2.utils import comm
from torch import Tensor

from lt_det.losses.criterion import Criterion
from lt_det.losses.targets import one_hot_targets
from lt_det.modeling.build import build_criterion

Normalizer = Literal["global", "stock"]


@META_ARCH_REGISTRY.register()
class LongTailRetinaNet(RetinaNet):
    """:class:`RetinaNet` with the loss of LT_DET.LOSS.

    Attributes:
        criterion: the loss of each anchor and class; MODEL.RETINANET.FOCAL_LOSS_* are not read.
    """

    loss_normalizer: Any

    @configurable
    def __init__(
        self, *, criterion: Criterion, normalizer: Normalizer = "global", **kwargs: Any
    ) -> None:
        """Build Detectron2's model and hold ``criterion``.

        Args:
            criterion: loss of kind "sigmoid".
            normalizer: the moving average of foreground anchors that divides the losses.
                "global": of all processes, and in the checkpoint. "stock": of each process by
                itself, and lost on resume, as Detectron2 has it.
            kwargs: see :class:`RetinaNet`.

        Raises:
            ValueError: if the criterion is of another kind, or ``normalizer`` unknown.
        """
        if criterion.kind != "sigmoid":
            raise ValueError(
                "LongTailRetinaNet needs a loss of kind 'sigmoid', got "
                f"{criterion.name!r} of kind {criterion.kind!r} (LT_DET.LOSS)"
            )
        if normalizer not in ("global", "stock"):
            raise ValueError(f"normalizer must be 'global' or 'stock', got {normalizer!r}")
        super().__init__(**kwargs)
        self.criterion = criterion
        self._last_normalizer = 1.0
        if normalizer == "global":
            # float64, as the Python float it replaces. 100 is Detectron2's start.
            start = torch.tensor(100.0, dtype=torch.float64)
            self.register_buffer("loss_normalizer", start)

    @classmethod
    def from_config(cls, cfg: Any) -> dict[str, Any]:
        """Read Detectron2's keys and LT_DET.LOSS."""
        return {**super().from_config(cfg), "criterion": build_criterion(cfg)}

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return "loss_cls" and "loss_box_reg", scalars; arguments as in :class:`RetinaNet`."""
        # The base class updates the normalizer and regresses boxes; its classification loss is
        # replaced and never differentiated.
        detached = [logits.detach() for logits in pred_logits]
        losses = super().losses(anchors, detached, gt_labels, pred_anchor_deltas, gt_boxes)
        labels = torch.stack(gt_labels)
        valid = labels >= 0
        logits = torch.cat(pred_logits, dim=1)[valid]
        targets = one_hot_targets(labels[valid], num_classes=self.num_classes, dtype=logits.dtype)
        # By foreground anchors, not by all: nearly all are easy background.
        loss_cls = self.criterion(logits, targets, reduction="sum") / self._last_normalizer
        return {**losses, "loss_cls": loss_cls}

    def _ema_update(
        self, name: str, value: float, initial_value: float, momentum: float = 0.9
    ) -> float:
        if name not in self._buffers:
            self._last_normalizer = super()._ema_update(name, value, initial_value, momentum)
            return self._last_normalizer
        ranks = comm.get_world_size()
        if ranks > 1:
            total = torch.tensor(float(value), dtype=torch.float64, device=self.device)
            torch.distributed.all_reduce(total)
            value = float(total)
        buffer = self._buffers[name]
        new = float(buffer) * momentum + value * (1 - momentum)
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
