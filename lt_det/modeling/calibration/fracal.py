"""Calibrate by frequency and spread over the image plane: FRACAL.

Alexandridis et al., "Fractal Calibration for long-tailed object detection", arXiv:2410.11774;
release kostas1515/FRACAL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lt_det.losses.checks import check_class_counts
from lt_det.modeling.calibration.affine import Affine, Calibration, check_strength


def fracal(
    class_counts: Tensor, dimensions: Tensor, *, num_images: float, strength: float = 2.0
) -> Affine:
    """Return the map that turns softmax scores into FRACAL's.

    FRACAL shifts the foreground logits by ``w_k = -log10(n_k / N) - log10(K)``, takes the softmax
    with the background, divides the foreground scores by ``D_k^strength`` and renormalises each
    row. That is one shift, ``z_k -> z_k + w_k - strength ln D_k``: affine, scale 1, and the
    background is not touched. The logarithm of w is to base 10, on natural logits: 0.434 of logit
    adjustment. A class with ``n_k = N / K`` and ``D_k = 1``, or strength 0, is not moved.

    Where we differ: N in the release is all images of LVIS v1, 100,170; here whoever calls says.
    With the images that have annotations (99,388), the config's, all w are 0.0034 lower.

    Args:
        class_counts: ``(K,)`` training images of the foreground classes, positive.
        dimensions: ``(K,)`` fractal dimensions D, see
            :mod:`lt_det.data.stats.fractal_dimension`, at least 1.
        num_images: N, of the training set.
        strength: the paper's lambda, at least 0.

    Raises:
        ValueError: if a count, a dimension, N or the strength is out of its range.
    """
    shift = _frequency_shift(class_counts, dimensions, num_images=num_images, strength=strength)
    shift = shift - strength * dimensions.double().cpu().log()
    return Affine(torch.ones_like(shift), shift)


def sigmoid_fracal(
    class_counts: Tensor, dimensions: Tensor, *, num_images: float, strength: float = 2.0
) -> ProductOfSigmoids:
    """Return FRACAL for sigmoid heads, scores ``sigma(z_k) sigma(z_k + w_k + phi_k)``.

    w is as in :func:`fracal`, ``phi_k = -log10(D_k^strength / sum_j D_j^strength) + log10(1 / K)``.
    Not affine: it cannot be folded into weights. Never the identity: where ``w + phi`` is 0 the
    scores are squared.

    Args:
        class_counts: as in :func:`fracal`.
        dimensions: as there.
        num_images: as there.
        strength: as there.

    Raises:
        ValueError: as there.
    """
    shift = _frequency_shift(class_counts, dimensions, num_images=num_images, strength=strength)
    # log10 of D^strength / sum D^strength, without the powers.
    log_share = torch.log_softmax(strength * dimensions.double().cpu().log(), dim=0) / math.log(10)
    return ProductOfSigmoids(shift - log_share - math.log10(len(shift)))


@dataclass(frozen=True, eq=False)
class ProductOfSigmoids(Calibration):
    """The map to logits whose sigmoid is ``sigma(z_k) sigma(z_k + shift_k)``. Not affine.

    Attributes:
        shift: ``(K,)`` float64, on the CPU.
    """

    shift: Tensor

    @property
    def num_classes(self) -> int:
        """K, foreground classes."""
        return len(self.shift)

    def foreground(self, logits: Tensor) -> Tensor:
        """Return ``(R, K)``: minus the logarithm of ``e^-a + e^-b + e^-(a + b)``, b = a + shift."""
        a, b = -logits, -(logits + self.shift.to(logits))
        return -torch.logsumexp(torch.stack([a, b, a + b]), dim=0)


def _frequency_shift(
    class_counts: Tensor, dimensions: Tensor, *, num_images: float, strength: float
) -> Tensor:
    """Return w ``(K,)`` float64, on the CPU."""
    check_strength(strength, name="strength")
    counts, sizes = class_counts.double().cpu(), dimensions.double().cpu()
    check_class_counts(counts, num_columns=counts.numel(), num_images=math.ceil(num_images))
    if sizes.shape != counts.shape or not bool(((sizes >= 1) & sizes.isfinite()).all()):
        raise ValueError(
            f"dimensions must be {len(counts)} finite numbers of at least 1, got "
            f"{tuple(sizes.shape)}, smallest {float(sizes.min()) if sizes.numel() else None}"
        )
    return -(counts / num_images).log10() - math.log10(len(counts))
