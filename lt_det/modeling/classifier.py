"""Classifiers that go in place of a predictor's linear layer."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F


def prior_bias(prior_prob: float) -> float:
    """Return the bias whose sigmoid is ``prior_prob``.

    Raises:
        ValueError: if ``prior_prob`` is not in (0, 1).
    """
    if not 0.0 < prior_prob < 1.0:
        raise ValueError(f"LT_DET.PRIOR_PROB must be in (0, 1), got {prior_prob}")
    return -math.log((1.0 - prior_prob) / prior_prob)


class CosineClassifier(nn.Module):
    """Scaled cosine between features and class weights, plus a bias.

    Same parameter names and shapes as the ``nn.Linear`` it replaces, so checkpoints load.
    """

    def __init__(self, linear: nn.Module, *, scale: float = 20.0) -> None:
        """Take over the parameters of ``linear``.

        Args:
            linear: the layer to replace.
            scale: factor of the cosine; logits are in [-scale, scale] plus the bias.

        Raises:
            TypeError: if ``linear`` is another layer.
        """
        super().__init__()
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"linear must be nn.Linear, got {type(linear).__name__}")
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias, self.scale = linear.weight, linear.bias, scale

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(R, C)`` logits of ``(R, D)`` features."""
        cosine = F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))
        logits = self.scale * cosine
        return logits if self.bias is None else logits + self.bias

    def extra_repr(self) -> str:
        """Return sizes and scale, for ``print(model)``."""
        return f"in={self.in_features}, out={self.out_features}, scale={self.scale}"
