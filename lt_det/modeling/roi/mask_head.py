"""Mask head whose last layer computes one mask for each region.

Shape shorthand: R regions of the batch, K foreground classes, C channels, S mask side.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY
from detectron2.modeling.roi_heads.mask_head import (
    MaskRCNNConvUpsampleHead,
    mask_rcnn_inference,
    mask_rcnn_loss,
)
from detectron2.structures import Instances
from torch import Tensor, nn

from lt_det.data.warn_once import warn_once
from lt_det.modeling.roi.class_rows import class_rows, why_all_classes
from lt_det.modeling.roi.normed_conv import (
    NormedConv2d,
    check_mask_predictor,
    normed_in_place_of,
    unit_length,
)


def region_logits(features: Tensor, classes: Tensor, *, predictor: nn.Conv2d) -> Tensor:
    """Return ``(R, 1, S, S)`` logits: row r is column ``classes[r]`` of ``predictor(features)``.

    The ``(R, K, S, S)`` logits of which these are a part are never computed, nor their gradient.

    Args:
        features: ``(R, C, S, S)`` float.
        classes: ``(R,)`` int64 in [0, K).
        predictor: 1 x 1 convolution from C to K channels, with or without a bias, or a
            :class:`NormedConv2d`.
    """
    num_classes = predictor.out_channels
    weight = class_rows(predictor.weight.flatten(1), classes, num_classes=num_classes)  # (R, 1, C)
    if isinstance(predictor, NormedConv2d):
        weight = unit_length(weight.transpose(1, 2)).transpose(1, 2)
        features = predictor.scale * unit_length(features)
    pixels = features.flatten(2)  # (R, C, S * S)
    if predictor.bias is None:
        logits = torch.bmm(weight, pixels)
    else:
        bias = class_rows(predictor.bias, classes, num_classes=num_classes)  # (R, 1)
        logits = torch.baddbmm(bias[:, :, None], weight, pixels)
    return logits.unflatten(2, features.shape[2:])


def why_not_by_region(predictor: nn.Module) -> str:
    """Return why :func:`region_logits` would not do what ``predictor`` does, or ""."""
    reason = why_all_classes(predictor, types=(Conv2d, nn.Conv2d, NormedConv2d))
    settings = ("kernel_size", "stride", "padding", "groups")
    if reason:
        return reason
    if [getattr(predictor, name) for name in settings] != [(1, 1), (1, 1), (0, 0), 1]:
        return "the layer is no 1 x 1 convolution"
    if getattr(predictor, "norm", None) or getattr(predictor, "activation", None):
        return "the layer has a norm or an activation"
    return ""


@ROI_MASK_HEAD_REGISTRY.register()
class LongTailMaskHead(MaskRCNNConvUpsampleHead):
    """:class:`MaskRCNNConvUpsampleHead` whose cost does not grow with the number of classes.

    Of K mask logits, training uses that of the ground-truth class and inference that of the
    predicted class: only this one is computed. Parameters, their names, initial draw, loss,
    logged statistics and ``pred_masks`` are Detectron2's (values to rounding, 1e-6), so
    checkpoints load both ways.

    Where that does not apply it is Detectron2's head: with class-agnostic masks, in TorchScript,
    in a trace (an export), where a subclass has other ``layers``, and where the predictor is no
    plain 1 x 1 convolution; the latter three say so once in the log. :meth:`layers` still gives
    all K logits.

    With ``normed`` the predictor is a :class:`NormedConv2d`, which Detectron2 has not.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        normed: bool = False,
        scale: float = 20.0,
        learn_scale: bool = False,
        **kwargs: Any,
    ) -> None:
        """Build Detectron2's layers.

        Args:
            input_shape: shape of the region features.
            normed: whether the predictor is a cosine.
            scale: of the cosine, above 0.
            learn_scale: whether the scale is a parameter.
            kwargs: see :class:`MaskRCNNConvUpsampleHead`.
        """
        super().__init__(input_shape, **kwargs)
        if normed:
            conv = self.predictor
            self.predictor = normed_in_place_of(conv, scale=scale, learn_scale=learn_scale)

    @classmethod
    def from_config(cls, cfg: Any, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read Detectron2's keys and LT_DET.MASK_PREDICTOR."""
        stock = super().from_config(cfg, input_shape)
        if "LT_DET" not in cfg:
            return stock
        node = cfg.LT_DET.MASK_PREDICTOR
        keys = {"scale": node.SCALE, "learn_scale": node.LEARN_SCALE}
        check_mask_predictor(node.NAME, **keys)
        return {**stock, **keys, "normed": node.NAME == "normed"}

    # No return annotation: TorchScript takes the branch's, which is not the same in training.
    def forward(self, x: Tensor, instances: list[Instances]):  # type: ignore[no-untyped-def]
        """Return {"loss_mask": scalar} in training, else ``instances`` with "pred_masks".

        Args:
            x: ``(R, C', S', S')`` region features, all images' regions in order.
            instances: one an image; in training with "gt_classes", "gt_masks" and
                "proposal_boxes" of foreground regions, else with "pred_classes".
        """
        if not torch.jit.is_scripting():
            # Not compiled, so free to be plain Python.
            return self._forward_eager(x, instances)
        mask_rcnn_inference(self.layers(x), instances)
        return instances

    def _forward_eager(self, x: Tensor, instances: list[Instances]) -> Any:
        if not self._by_region():
            return super().forward(x, instances)
        field = "gt_classes" if self.training else "pred_classes"
        classes = [i.get(field).to(x.device, torch.int64) for i in instances if len(i)]
        labels = torch.cat(classes) if classes else x.new_zeros(0, dtype=torch.int64)
        for name, layer in self.named_children():
            if name != "predictor":
                x = layer(x)
        logits = region_logits(x, labels, predictor=self.predictor)
        # One channel is what Detectron2's loss and inference take for class-agnostic masks.
        if self.training:
            loss = mask_rcnn_loss(logits, instances, self.vis_period)
            return {"loss_mask": loss * self.loss_weight}
        mask_rcnn_inference(logits, instances)
        return instances

    def _by_region(self) -> bool:
        """Return whether :meth:`forward` computes one mask a region; if not, log the reason."""
        if getattr(self.predictor, "out_channels", 0) == 1:
            return False  # class-agnostic: there is nothing to save
        if torch.jit.is_tracing():
            reason = "it is traced or exported"
        elif getattr(self.layers, "__func__", None) is not MaskRCNNConvUpsampleHead.layers:
            reason = f"{type(self).__name__}.layers is not Detectron2's"
        else:
            reason = why_not_by_region(self.predictor)
        if reason:
            warn_once(f"LongTailMaskHead computes the masks of all classes: {reason}")
        return not reason
