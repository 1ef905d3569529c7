"""Learnable class weights of the Meta Reweighter.

Source: Ren et al., arXiv:2007.10740, appendix B.2, and the release, which squashes by a sigmoid,
weights foreground regions only and normalises their mean weight to 1 (the paper says neither).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ClassReweighter(nn.Module):
    """Class weights ``sigmoid(psi)``, normalised over a batch; all 1 at the start.

    K foreground classes; the background always has weight 1.
    """

    def __init__(self, num_classes: int) -> None:
        """Start from equal weights for ``num_classes`` (K) foreground classes."""
        super().__init__()
        self.psi = nn.Parameter(torch.zeros(num_classes))

    def forward(self, histogram: Tensor) -> Tensor:
        """Return ``(K,)`` class weights whose mean over the foreground of a batch is 1.

        Args:
            histogram: ``(K,)``, how many regions of the batch (of all ranks) have each class. If
                all zero, every weight is 1 and no gradient reaches psi.
        """
        # In float64: the terms of the gradient cancel where a batch has one class only, and Adam
        # would take what float32 leaves of them for a direction.
        psi = self.psi.double()
        histogram = histogram.to(psi)
        total = histogram.sum()
        squashed = torch.sigmoid(psi)
        mass = (squashed * histogram).sum()
        # Where nothing is foreground, 1/1 * 1 instead of 0/0.
        empty = total == 0
        scale = torch.where(empty, torch.ones_like(mass), total) / torch.where(
            empty, torch.ones_like(mass), mass
        )
        weights = torch.where(empty, torch.ones_like(squashed), squashed * scale)
        return weights.to(self.psi.dtype)


def class_histogram(labels: Tensor, *, num_classes: int) -> Tensor:
    """Return ``(K,)`` float32, how often each foreground class is a label.

    Args:
        labels: ``(R,)`` int64; what is not in ``[0, K)`` is background and not counted.
        num_classes: K.
    """
    foreground = (labels >= 0) & (labels < num_classes)
    return torch.bincount(labels[foreground], minlength=num_classes).float()


def region_weights(class_weights: Tensor, labels: Tensor) -> Tensor:
    """Return ``(R,)`` weights: that of the label's class, 1 for the background (label K)."""
    return torch.cat([class_weights, class_weights.new_ones(1)])[labels]
