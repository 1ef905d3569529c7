"""Freeze all but the classifier for the second stage of decoupled training.

Source: Kang et al., arXiv:1910.09217; BALMS fine-tunes the stage-1 classifier on LVIS.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lt_det.modeling.classifiers.classification_head import classification_heads
from lt_det.modeling.trainer_keys import obeyed


def classifier_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the classifiers in ``model``; none if it has no head we know."""
    heads = classification_heads(model)
    return [parameter for head in heads for parameter in head.cls_score.parameters()]


def freeze_all_but_classifier(model: nn.Module) -> nn.Module:
    """Return ``model`` with gradients for the classifiers ``cls_score`` only, in place.

    Batch norm keeps its running statistics, also in training mode. The modules stay what they
    are (replacing them would lose the activation that timm builds into its batch norm), and so do
    the names in checkpoints.

    Raises:
        ValueError: if the model has no classifier of this package.
    """
    heads = list(classification_heads(model))
    if not heads:
        raise ValueError(
            "LT_DET.DECOUPLED needs a classifier that this package knows: set LT_DET.PATCH True, "
            "MODEL.ROI_HEADS.NAME to LongTailROIHeads, LongTailCascadeROIHeads or "
            "LongTailRes5ROIHeads, or MODEL.META_ARCHITECTURE to LongTailImageClassifier"
        )
    obeyed(model, "LT_DET.DECOUPLED", "LT_DET.CLASSIFIER.DISALIGN")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for head in heads:
        head.cls_score.requires_grad_(True)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(_use_running_statistics)
    return model


def _use_running_statistics(module: nn.Module, _inputs: Any) -> None:
    # Model.train() comes after freezing and would switch the statistics on again.
    module.training = False
