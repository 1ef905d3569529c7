"""Second stage of decoupled training: everything frozen but the box classifier.

Source: Kang et al., arXiv:1910.09217; BALMS fine-tunes the stage-1 classifier on LVIS.
"""

from __future__ import annotations

from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from lt_det.modeling.roi_heads import box_predictors


def freeze_all_but_classifier(model: nn.Module) -> nn.Module:
    """Return ``model`` with gradients for the box predictors' ``cls_score`` only.

    Batch norm is replaced by frozen batch norm: its running statistics would go on changing.

    Raises:
        ValueError: if the model has no box predictor of this package.
    """
    predictors = list(box_predictors(model))
    if not predictors:
        raise ValueError(
            "LT_DET.DECOUPLED needs a box predictor of this package: set MODEL.ROI_HEADS.NAME to "
            "LongTailROIHeads, LongTailCascadeROIHeads or LongTailRes5ROIHeads"
        )
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for predictor in predictors:
        predictor.cls_score.requires_grad_(True)
    return FrozenBatchNorm2d.convert_frozen_batchnorm(model)
