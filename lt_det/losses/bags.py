"""Balanced group softmax: classes compete with those of about the same number of examples.

Source: Li et al., "Overcoming Classifier Imbalance for Long-tail Object Detection with Balanced
Group Softmax", arXiv:2006.10408, Eq. 3-6, and its release.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lt_det.losses.checks import at_least_float32, check_class_counts, check_labels
from lt_det.losses.cross_entropy import softmax_ce_loss
from lt_det.losses.draws import drawn_rows
from lt_det.losses.reduction import Reduction, reduce_loss

#: Counts at which a group ends, as the paper has it: <10, <100, <1000, all others.
BOUNDS = (10.0, 100.0, 1000.0)


def bags_columns(*, background: bool, bounds: Sequence[float], **_: Any) -> tuple[str, ...]:
    """Return the columns after those of the classes: others of each group, object, background."""
    if not background:
        return ()
    return (*(f"others{group}" for group in range(len(bounds) + 1)), "object", "background")


def bags_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    class_counts: Tensor,
    bounds: Sequence[float] = BOUNDS,
    others_ratio: float = 8.0,
    background: bool = False,
    generator: torch.Generator | None = None,
    reduction: Reduction = "none",
) -> Tensor:
    """Return a sum of cross-entropies, one in each group of classes, and objectness, in nats.

    A class is in the group of its count. Each group has a column "others", the label there of
    all rows of other groups and of the background. A group's loss is the mean over its rows: all
    of its classes, and rows of others, drawn without replacement, ``others_ratio`` times as many,
    rounded down. A group without rows of its classes has none. Objectness is the cross-entropy of
    two columns, object and background, on all rows. A row's loss is so scaled that the mean over
    the N rows is the sum of the groups' means, as in the release.

    Where we differ: the draws can be repeated, and groups are of the counts that are given, in
    the release instances. Without a background (images, which the paper has
    not) there is no objectness, and the logit of others is 0: a softmax of two or more columns
    loses nothing by that.

    Args:
        logits: ``(N, K)`` float, or ``(N, K + G + 2)`` with others of the G groups, object and
            background last.
        labels: ``(N,)`` int64 in ``[0, K)``, or K for the background.
        class_counts: ``(K,)``, training frequency of the classes.
        bounds: G - 1 counts at which the next group begins, ascending; none is one group.
        others_ratio: beta, rows of others for each row of a group's classes, at least 0.
        background: whether there are columns after the classes'.
        generator: of the draws; None is torch's own.
        reduction: "none", "mean" or "sum".

    Returns:
        ``(N,)`` for "none", else a scalar.

    Raises:
        ValueError: if shapes or dtypes disagree, a count is not positive, ``others_ratio`` is
            negative or ``bounds`` do not ascend.
    """
    check_labels(logits, labels)
    if not 0.0 <= others_ratio < math.inf:
        raise ValueError(f"others_ratio must be at least 0 and finite, got {others_ratio}")
    correct, member = _log_correct(
        logits, labels, class_counts, bounds=bounds, background=background
    )
    wanted = (others_ratio * member.sum(dim=0).double()).floor()
    used = (member | drawn_rows(~member, wanted, generator=generator)).to(correct)
    share = used * (len(labels) / used.sum(dim=0).clamp(min=1))
    loss = -(correct * share).sum(dim=1)
    if background:
        loss = loss + softmax_ce_loss(logits[:, -2:], (labels >= len(class_counts)).long())
    return reduce_loss(loss, reduction)


def bags_plain_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    class_counts: Tensor,
    bounds: Sequence[float] = BOUNDS,
    background: bool = False,
) -> Tensor:
    """Return the cross-entropies of all groups, and objectness, in nats; nothing is drawn.

    Its terms are ``-log`` of the label's score (:func:`bags_scores`) and, for each group that the
    label is not in, ``-log`` of the score of others: a class of another group is an error as well.

    Args:
        logits: as :func:`bags_loss`.
        labels: likewise.
        class_counts: likewise.
        bounds: likewise.
        background: likewise.

    Returns:
        ``(N,)``.

    Raises:
        ValueError: as there.
    """
    check_labels(logits, labels)
    correct, _ = _log_correct(logits, labels, class_counts, bounds=bounds, background=background)
    loss = -correct.sum(dim=1)
    if background:
        loss = loss + softmax_ce_loss(logits[:, -2:], (labels >= len(class_counts)).long())
    return loss


def bags_scores(
    logits: Tensor, *, background: bool, class_counts: Tensor, bounds: Sequence[float]
) -> Tensor:
    """Return the softmax in each class's group times that of object, and the background's score.

    The scores of a row need not add up to 1. Without a background it is the groups' softmax.
    """
    log_scores, _ = _log_scores(logits, class_counts, bounds=bounds, background=background)
    scores = log_scores[:, : len(class_counts)].exp().to(logits.dtype)
    if not background:
        return scores
    objectness = logits[:, -2:].softmax(dim=1)
    return torch.cat([scores * objectness[:, :1], objectness[:, 1:]], dim=1)


def _log_correct(
    logits: Tensor,
    labels: Tensor,
    class_counts: Tensor,
    *,
    bounds: Sequence[float],
    background: bool,
) -> tuple[Tensor, Tensor]:
    """Return log scores ``(N, G)`` of the label in each group, and whether it is a class there."""
    log_scores, group = _log_scores(logits, class_counts, bounds=bounds, background=background)
    num_classes, num_groups = len(class_counts), len(bounds) + 1
    own = labels.clamp(max=num_classes - 1)
    groups = torch.arange(num_groups, device=logits.device)
    member = (group[own][:, None] == groups) & (labels < num_classes)[:, None]
    others = log_scores[:, num_classes:][:, :num_groups]
    return torch.where(member, log_scores.gather(1, own[:, None]), others), member


def _log_scores(
    logits: Tensor, class_counts: Tensor, *, bounds: Sequence[float], background: bool
) -> tuple[Tensor, Tensor]:
    """Return log softmax in the groups ``(N, K + G)``, others last, and the groups ``(K,)``.

    At least float32; a group is a number in [0, G).
    """
    if not all(a < b < math.inf for a, b in zip((0, *bounds), bounds)):
        raise ValueError(f"bounds must be positive and ascend, got {tuple(bounds)}")
    ends = torch.tensor(list(bounds), dtype=torch.float64)
    num_groups, num_others = len(bounds) + 1, len(bounds) + 3 if background else 0
    check_class_counts(class_counts, num_columns=logits.shape[1] - num_others)
    group = torch.bucketize(class_counts.to(logits.device), ends.to(logits.device), right=True)
    logits = at_least_float32(logits)
    if background:
        logits = logits[:, :-2]
    else:
        logits = torch.cat([logits, logits.new_zeros(len(logits), num_groups)], dim=1)
    groups = torch.arange(num_groups, device=logits.device)
    columns = torch.cat([group, groups])
    # By masks: the numbers of columns are on the device, and nothing here waits for it.
    sums = [logits.masked_fill(columns != g, -math.inf).logsumexp(dim=1) for g in range(num_groups)]
    return logits - torch.stack(sums, dim=1)[:, columns], group
