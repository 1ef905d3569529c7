"""Fold an affine calibration into the weights of a classifier, for plain Detectron2.

    fold_into_weights(predictor.cls_score, norcal(counts, gamma=0.6), background=True)

Afterwards the classifier gives the calibrated logits by itself, up to float32 rounding of weights
and bias (relative 1e-7). Not foldable are a calibration that is not affine, and a scale in a
cosine classifier, whose logits do not depend on the length of its weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lt_det.modeling.calibration.affine import Affine, Calibration
from lt_det.modeling.classifiers.disalign import DisAlignClassifier
from lt_det.modeling.classifiers.layers import CosineClassifier, ScaledClassifier


def as_affine(calibration: Calibration) -> Affine:
    """Return ``calibration`` if it is affine.

    Raises:
        TypeError: if it is not, and so cannot be folded.
    """
    if not isinstance(calibration, Affine):
        raise TypeError(
            f"a {type(calibration).__name__} is not affine in the logits (FRACAL of a sigmoid "
            "head): it cannot be folded into weights, keep it as LT_DET.POST_HOC"
        )
    return calibration


def folded_parameters(
    weight: Tensor, bias: Tensor, calibration: Calibration, *, background: bool
) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the calibrated classifier, of the shapes and dtypes given.

    Args:
        weight: ``(A * K, ...)``, A times the K classes (a convolution with A anchors), or
            ``(K + 1, ...)`` with a background in the last row.
        bias: ``(A * K,)`` or ``(K + 1,)``.
        calibration: of K classes.
        background: whether the last row is the background's; it is not changed.

    Raises:
        TypeError: if the calibration is not affine.
        ValueError: if the rows do not fit its classes.
    """
    affine = as_affine(calibration)
    rows = len(weight) - background
    if rows <= 0 or rows % affine.num_classes or (background and rows != affine.num_classes):
        raise ValueError(
            f"weight must have {affine.num_classes} rows, one for each class of the calibration, "
            f"{'and one for the background' if background else 'or a multiple'}, got {len(weight)}"
        )
    repeats = rows // affine.num_classes
    scale = torch.cat([affine.scale.repeat(repeats), affine.scale.new_ones(int(background))])
    shift = torch.cat([affine.shift.repeat(repeats), affine.shift.new_zeros(int(background))])
    scale, shift = scale.to(weight.device), shift.to(weight.device)
    by_row = scale.view(-1, *[1] * (weight.dim() - 1))
    return (
        (by_row * weight.detach().double()).to(weight.dtype),
        (scale * bias.detach().double() + shift).to(bias.dtype),
    )


@torch.no_grad()
def fold_into_weights(classifier: nn.Module, calibration: Calibration, *, background: bool) -> None:
    """Change weight and bias of a classifier, in place, so that it gives the calibrated logits.

    The calibration must not be applied any more afterwards. One of tau-normalisation holds for the
    weights that it was made from.

    Args:
        classifier: ``nn.Linear``, a convolution with A times K channels (RetinaNet), "lws" (the
            weights, not the factors, change), or "cosine", of which only the bias can change.
        calibration: affine, of K classes.
        background: whether the last row is the background's.

    Raises:
        TypeError: if the calibration is not affine, or the classifier is another one.
        ValueError: if the rows do not fit, there is no bias to take the shift, or the scale of a
            cosine classifier would have to change.
    """
    affine = as_affine(calibration)
    if isinstance(classifier, DisAlignClassifier):
        raise TypeError(
            "DisAlign calibrates by the features of each region, which is no affine map of the "
            "logits: it cannot be folded into weights, and nothing can be folded into it"
        )
    known = (nn.Linear, nn.Conv2d, ScaledClassifier, CosineClassifier)
    if not isinstance(classifier, known):
        raise TypeError(
            f"a {type(classifier).__name__} cannot be folded into: expected nn.Linear, nn.Conv2d, "
            "or the cosine or lws classifier of lt_det"
        )
    weight, bias = classifier.weight, classifier.bias
    if bias is None and bool(affine.shift.any()):
        raise ValueError("the classifier has no bias, which the shift of a calibration goes to")
    if isinstance(classifier, CosineClassifier) and bool((affine.scale != 1).any()):
        raise ValueError(
            "a cosine classifier has one scale for all classes: a calibration that scales classes "
            "(tau-norm, LogN) cannot be folded into it"
        )
    given = weight.new_zeros(len(weight)) if bias is None else bias
    shift = affine
    if isinstance(classifier, ScaledClassifier):
        # Its logits are s (w x + b): the shift goes through s.
        factors = classifier.class_scale.detach().double().cpu()[: affine.num_classes]
        if bool(((factors == 0) & (affine.shift != 0)).any()):
            raise ValueError("a class with the factor 0 cannot take a shift: fold a linear one")
        divisor = torch.where(factors == 0, 1.0, factors)
        shift = Affine(affine.scale, affine.shift / divisor)
    new_weight, new_bias = folded_parameters(weight, given, shift, background=background)
    weight.copy_(new_weight)
    if bias is not None:
        bias.copy_(new_bias)
