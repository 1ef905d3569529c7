"""Classifiers that replace a linear layer."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
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


def set_prior_bias(
    bias: Tensor,
    *,
    prior_prob: float,
    prior_counts: Tensor | None = None,
    logit_of: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Set the bias ``(K,)`` of a sigmoid classifier, in place.

    Without it the first loss is K log 2 and swamps all else.

    Args:
        bias: parameter.
        prior_prob: score of every class at the start, in (0, 1).
        prior_counts: ``(K,)``; if given the scores are in proportion to them, see
            :func:`class_prior_bias`.
        logit_of: probability to logit, where it is not the sigmoid's.
    """
    with torch.no_grad():
        if prior_counts is None:
            bias.fill_(prior_bias(prior_prob))
        else:
            bias.copy_(class_prior_bias(prior_counts, prior_prob=prior_prob))
        if logit_of is not None:
            bias.copy_(logit_of(bias.double().sigmoid()))


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


class ScaledClassifier(nn.Module):
    """Frozen linear classifier with one learned factor a class ("LWS").

    Learnable weight scaling of Kang et al., arXiv:1910.09217, section 4.3: logits are
    ``s_c (w_c x + b_c)``. Weight and bias keep the names and shapes of the ``nn.Linear`` they come
    from; a checkpoint without ``class_scale`` loads with factors of 1.
    """

    def __init__(self, linear: nn.Linear) -> None:
        """Take over the parameters of ``linear`` and freeze them."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.class_scale = nn.Parameter(torch.ones(self.out_features))
        self.requires_grad_(True)

    def requires_grad_(self, requires_grad: bool = True) -> ScaledClassifier:
        """Let the factors alone learn, or nothing."""
        super().requires_grad_(False)
        self.class_scale.requires_grad_(requires_grad)
        return self

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(R, C)`` logits of ``(R, D)`` features."""
        return self.class_scale * F.linear(features, self.weight, self.bias)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        # The stage before had a plain linear classifier.
        if f"{prefix}weight" in state_dict:
            state_dict.setdefault(f"{prefix}class_scale", torch.ones(self.out_features))
        super()._load_from_state_dict(state_dict, prefix, *args)


def linear_parameters(classifier: nn.Module) -> tuple[Tensor, Tensor]:
    """Return weights ``(C, D)`` and biases ``(C,)`` of a classifier whose logits are ``w x + b``.

    Args:
        classifier: linear, or :class:`ScaledClassifier`, whose factors are multiplied in.

    Raises:
        TypeError: for another classifier.
    """
    if not isinstance(classifier, (nn.Linear, ScaledClassifier)):
        raise TypeError(
            f"a {type(classifier).__name__} is no linear classifier: expected nn.Linear or "
            "ScaledClassifier"
        )
    weight, bias = classifier.weight, classifier.bias
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    if isinstance(classifier, ScaledClassifier):
        return classifier.class_scale[:, None] * weight, classifier.class_scale * bias
    return weight, bias


#: Values of LT_DET.CLASSIFIER.NAME.
CLASSIFIERS = ("linear", "cosine", "lws")


def build_image_classifier(
    name: str, in_features: int, num_classes: int, *, bias: bool, scale: float
) -> nn.Module:
    """Return a classifier ``(B, in_features) -> (B, num_classes)``.

    Args:
        name: one of :data:`CLASSIFIERS`.
        in_features: D.
        num_classes: K.
        bias: whether it has one.
        scale: factor of the cosine.

    Raises:
        ValueError: if there is no such classifier.
    """
    if name not in CLASSIFIERS:
        raise ValueError(f"LT_DET.CLASSIFIER.NAME must be one of {CLASSIFIERS}, got {name!r}")
    linear = nn.Linear(in_features, num_classes, bias=bias)
    if name == "cosine":
        return CosineClassifier(linear, scale=scale)
    return ScaledClassifier(linear) if name == "lws" else linear
