"""LDAM: a margin that grows as the class gets rarer.

Source: Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss",
NeurIPS 2019, arXiv:1906.07413, Eq. 11-13, with the margins of its release.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from lt_det.losses.checks import at_least_float32, check_class_counts, check_labels
from lt_det.losses.cross_entropy import softmax_ce_loss
from lt_det.losses.reduction import Reduction


def ldam_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    class_counts: Tensor,
    max_margin: float = 0.5,
    scale: float = 30.0,
    background: bool = False,
    reduction: Reduction = "none",
) -> Tensor:
    """Return the cross-entropy with ``scale * margin_y`` taken off the label's logit, in nats.

    ``margin_j = max_margin (n_min / n_j)^(1/4)``. The margins are in units of the cosine between
    features and class weights, so the classifier should be the cosine one with the same scale
    (scale 30) and no bias.

    The background of a detector, which the paper has not, gets no margin and has no part in
    n_min: how often it is a label says nothing of how well it is learned.

    Args:
        logits: ``(N, C)`` float, ``scale`` times the cosine.
        labels: ``(N,)`` int64 in ``[0, C)``.
        class_counts: ``(C,)``, training frequency of each column, in any unit.
        max_margin: of the rarest class; 0.5 in the paper. 0 is cross-entropy.
        scale: 30 in the release.
        background: whether the last column is the background.
        reduction: "none", "mean" or "sum".

    Returns:
        ``(N,)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, or ``max_margin`` or ``scale`` is negative.
    """
    check_labels(logits, labels)
    check_class_counts(class_counts, num_columns=logits.shape[1])
    for name, value in (("max_margin", max_margin), ("scale", scale)):
        if value < 0:
            raise ValueError(f"{name} must be at least 0, got {value}")
    counts = class_counts.double()
    counts = counts[:-1] if background else counts
    margins = max_margin * (counts.min() / counts) ** 0.25
    if background:
        margins = F.pad(margins, (0, 1))
    logits = at_least_float32(logits)
    shifts = (scale * margins).to(logits)[labels]
    adjusted = logits.scatter_add(1, labels[:, None], -shifts[:, None])
    return softmax_ce_loss(adjusted, labels, reduction=reduction)
