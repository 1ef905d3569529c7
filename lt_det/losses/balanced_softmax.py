"""Balanced Softmax: cross-entropy corrected for the class prior of the training set.

Source: Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020,
arXiv:2007.10740, Eq. 4; with ``tau = 1/4`` the loss of the margin bound, Eq. 10.
"""

from __future__ import annotations

from torch import Tensor

from lt_det.losses.checks import at_least_float32, check_class_counts, check_labels
from lt_det.losses.cross_entropy import softmax_ce_loss
from lt_det.losses.reduction import Reduction


def balanced_softmax_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    class_counts: Tensor,
    tau: float = 1.0,
    reduction: Reduction = "none",
) -> Tensor:
    """Return the softmax cross-entropy of ``logits + tau * log(class_counts)``, in nats.

    The prior is added in training only: the plain logits then fit a uniform class prior, and
    inference needs no correction.

    Args:
        logits: ``(N, C)`` float. In an R-CNN, C = K + 1 and the background is the last column.
        labels: ``(N,)`` int64 in ``[0, C)``.
        class_counts: ``(C,)``, how often each column is the label in training, in any unit:
            a common factor cancels. For a detector see
            :func:`lt_det.data.stats.class_prior.counts_with_background`; the paper has no
            background.
        tau: strength of the correction: 1 is Eq. 4, 0.25 is Eq. 10, 0 is plain cross-entropy.
        reduction: "none", "mean" or "sum".

    Returns:
        ``(N,)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, or a count is not positive.
    """
    check_labels(logits, labels)
    check_class_counts(class_counts, num_columns=logits.shape[1])
    # Logs in float64: a count above 65504 overflows float16.
    log_prior = class_counts.double().log()
    # Centred, which changes no loss, so that the sum loses no digits to a large common offset.
    log_prior = log_prior - log_prior.mean()
    # Before the sum: beside a large half-precision logit a small prior would vanish.
    logits = at_least_float32(logits)
    adjusted = logits + (tau * log_prior).to(logits)
    return softmax_ce_loss(adjusted, labels, reduction=reduction)
