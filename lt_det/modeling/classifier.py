"""Classifiers that go in place of a predictor's linear layer."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from lt_det.losses.checks import check_class_counts


def prior_bias(prior_prob: float) -> float:
    """Return the bias whose sigmoid is ``prior_prob``.

    Raises:
        ValueError: if ``prior_prob`` is not in (0, 1).
    """
    if not 0.0 < prior_prob < 1.0:
        raise ValueError(f"LT_DET.PRIOR_PROB must be in (0, 1), got {prior_prob}")
    return -math.log((1.0 - prior_prob) / prior_prob)


def class_prior_bias(counts: Tensor, *, prior_prob: float) -> Tensor:
    """Return ``(K,)`` float64 biases whose sigmoids are in proportion to the class counts.

    The sigmoid of class k is ``prior_prob K n_k / sum(n)``, at most 1/2: a mean of
    ``prior_prob`` where nothing is capped, and equal counts give :func:`prior_bias`.

    Args:
        counts: ``(K,)``, training frequency of each foreground class, positive.
        prior_prob: mean score of the classes at the start, in (0, 1).

    Raises:
        ValueError: if ``prior_prob`` is not in (0, 1), or a count is not positive and finite.
    """
    prior_bias(prior_prob)  # checks it
    check_class_counts(counts.cpu(), num_columns=counts.numel())
    counts = counts.double()
    return (prior_prob * counts / counts.mean()).clamp(max=max(prior_prob, 0.5)).logit()


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
