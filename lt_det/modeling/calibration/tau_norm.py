"""Normalise the weights of a classifier: tau-normalisation.

Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
arXiv:1910.09217, section 4.3: weights ``w_k / |w_k|^tau``, without a bias.
"""

from __future__ import annotations

import torch
from torch import nn

from lt_det.modeling.calibration.affine import Affine, check_strength
from lt_det.modeling.classifiers.layers import linear_parameters


def tau_norm(classifier: nn.Module, *, num_classes: int, tau: float) -> Affine:
    """Return the map to the logits ``(m / |w_k|)^tau w_k x + mean(b)``.

    m is the mean of the norms ``|w_k|``, b the bias; both are of the foreground. The paper has
    neither: m is one factor for all classes, which keeps the odds against a background that is not
    touched, and of the bias all that differs between classes is left out, as there. So tau near 0
    is the classifier without its biases; tau 0 is the identity.

    As a map of the logits ``z_k = w_k x + b_k`` it has scale ``(m / |w_k|)^tau`` and shift
    ``mean(b) - scale_k b_k``. A row of zeros has no direction and stays one: scale 0, since what
    its logits differ from the bias by is rounding, which no factor must magnify.

    Args:
        classifier: linear or "lws", with K rows, or K + 1 of which the last is the background's.
        num_classes: K.
        tau: exponent, at least 0; 1 makes all weights equally long.

    Raises:
        TypeError: for another classifier.
        ValueError: if tau is negative.
    """
    check_strength(tau, name="tau")
    if not tau:
        return Affine.identity(num_classes)
    weight, bias = (p[:num_classes].detach().float() for p in linear_parameters(classifier))
    norms = weight.norm(dim=1)
    has_direction = norms > torch.finfo(torch.float32).eps * norms.mean()
    scale = torch.where(has_direction, norms.mean() / norms, 0.0).double() ** tau
    return Affine(scale, bias.double().mean() - scale * bias.double())
