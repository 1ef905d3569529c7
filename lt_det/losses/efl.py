"""Equalized focal loss: a focusing of each class by the gradients that it has got so far.

Source: Li et al., "Equalized Focal Loss for Dense Long-Tailed Object Detection",
arXiv:2201.02593, Eq. 4-6, and the release in United-Perception.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from lt_det.losses.focal import weigh_by_alpha
from lt_det.losses.gradient_sums import GradientSums
from lt_det.losses.margin import check_gamma, focal_of_margin, sigmoid_margin
from lt_det.losses.reduction import Reduction, reduce_loss


class FocalGradientSums(GradientSums):
    """Sums of the gradients of the equalized focal loss."""

    provides = ("balance",)
    nothing_yet = 1.0

    def arguments(self) -> dict[str, Tensor]:
        """Return the ratio of both sums, at most 1, ``(K,)`` float64; 1 before there are any."""
        return {"balance": self.ratio().clamp(max=1)}

    def gradients(self, logits: Tensor, targets: Tensor, **parameters: Any) -> Tensor:
        """Return the size of each gradient, in closed form: autograd would cost a second step."""
        alpha, gamma, scale = (parameters[name] for name in ("alpha", "gamma", "scale"))
        margin = sigmoid_margin(logits, targets)
        log_wrong = -F.softplus(margin)
        wrong, negative_log_right = log_wrong.exp(), -(log_wrong + margin)
        focus = _focus(self.arguments()["balance"], gamma=gamma, scale=scale).to(margin)
        size = negative_log_right.mul_(1 - wrong).mul_(focus).add_(wrong)
        size.mul_(log_wrong.mul_(focus).exp_()).mul_(focus / gamma)
        return weigh_by_alpha(size, targets, alpha=alpha)


def efl_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    balance: Tensor | None = None,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    scale: float = 8.0,
    reduction: Reduction = "none",
) -> Tensor:
    """Return ``-alpha_t (gamma_c / gamma) (1 - p_t)^gamma_c log p_t`` of each class, in nats.

    ``gamma_c = gamma + scale (1 - g_c)``, g the ratio of a class's positive to its negative
    gradients so far, at most 1: rare classes are focused more, and weighted up for it.

    The release's order: gradients of a step count from the next one on. There they are caught in
    the backward pass, after the division by the foreground anchors and the loss scale of half
    precision; here they are those of the undivided loss. That changes no ratio of a batch, but
    batches with many anchors count more. The sums are float64, where float32 stops growing.

    Args:
        logits: ``(N, K)`` float, foreground classes only.
        targets: ``(N, K)`` float, 0 or 1; all zero for the background.
        balance: g, ``(K,)``, see :class:`FocalGradientSums`; None is the start: focal loss.
        alpha: weight of positives, negatives get ``1 - alpha``; None is no weight.
        gamma: focus of a balanced class, above 0.
        scale: by how much gamma_c can exceed it; 0 is focal loss.
        reduction: "none", "mean" or "sum" over all N x K elements.

    Returns:
        ``(N, K)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, ``gamma`` is not above 0, ``scale`` negative or
            ``alpha`` not in [0, 1].
    """
    check_gamma(gamma)
    if gamma == 0 or scale < 0:
        raise ValueError(f"gamma must be above 0 and scale at least 0, got {gamma} and {scale}")
    margin = sigmoid_margin(logits, targets)
    if balance is None:
        focus = margin.new_full((margin.shape[1],), gamma)
    else:
        focus = _focus(balance, gamma=gamma, scale=scale).to(margin)
    loss = focal_of_margin(margin, gamma=focus) * (focus / gamma)
    return reduce_loss(weigh_by_alpha(loss, targets, alpha=alpha), reduction)


def _focus(balance: Tensor, *, gamma: float, scale: float) -> Tensor:
    """Return gamma_c, ``(K,)`` float64."""
    return gamma + scale * (1 - balance.double())
