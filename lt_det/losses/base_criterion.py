"""Interface between heads and losses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn

from lt_det.losses.cross_entropy import sigmoid_ce_loss, softmax_ce_loss
from lt_det.losses.image_lists import HIDDEN, ImageLists
from lt_det.losses.reduction import Reduction
from lt_det.losses.spec import Columns, Kind
from lt_det.losses.targets import one_hot_targets


class BaseCriterion(nn.Module):
    """A loss of logits and targets, with the sums that heads take of it.

    Attributes:
        name: row of the loss table, for messages.
        kind: "softmax" or "sigmoid".
        mean_is_over_weights: whether a mean is divided by the sum of the rows' class weights, and
            so is not the mean of the rows' losses.
        logit_of: see :class:`~lt_det.losses.spec.LossSpec`.
        image_lists: if set, heads hide logits by it before they ask for the loss.
        hidden_logit: what they put there; see :class:`~lt_det.losses.spec.LossSpec`.
        plain_hidden_logit: likewise, for :meth:`plain_row_losses`.
        unmet_keys: config keys that must be in effect before the first loss, and are not yet.
    """

    name: str
    kind: Kind
    mean_is_over_weights: bool = False
    logit_of: Callable[[Tensor], Tensor] | None = None
    image_lists: ImageLists | None = None
    hidden_logit: float = HIDDEN
    plain_hidden_logit: float = HIDDEN
    unmet_keys: Collection[str] = ()

    @abstractmethod
    def forward(self, logits: Tensor, targets: Tensor, *, reduction: Reduction = "none") -> Tensor:
        """Return the element-wise loss: ``(N,)`` for softmax kinds, ``(N, K)`` for sigmoid kinds.

        Args:
            logits: ``(N, C)`` or ``(N, K)`` float.
            targets: labels ``(N,)`` int64 or targets ``(N, K)`` float, as the kind asks.
            reduction: "none", or over all elements "mean" or "sum".

        Raises:
            RuntimeError: if the loss needs class counts and none are bound.
        """

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return ``(N,)`` losses, one a row, for integer labels of either kind.

        Sigmoid kinds are summed over classes, as Detectron2 does in its box head.

        Args:
            logits: ``(N, K + 1)`` for softmax kinds, ``(N, K)`` for sigmoid kinds.
            labels: ``(N,)`` int64 in ``[0, K]``, K = background.
        """
        if self.kind == "softmax":
            return self(logits, labels)
        return self(logits, self._targets(logits, labels)).sum(dim=1)

    def plain_row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return ``(N,)`` losses without any correction: of the scores that a prediction has.

        Neither class weights nor margins, factors, draws or a state have a part in it. It is
        ``-log`` of the probability that :meth:`scores` give what is right, of each column by itself
        for sigmoid kinds. For scores by softmax or sigmoid that is the cross-entropy.

        Args:
            logits: as for :meth:`row_losses`.
            labels: likewise.
        """
        if self.kind == "softmax":
            return self._plain(logits, labels)
        return self._plain(logits, self._targets(logits, labels)).sum(dim=1)

    def _plain(self, logits: Tensor, targets: Tensor) -> Tensor:
        cross_entropy = softmax_ce_loss if self.kind == "softmax" else sigmoid_ce_loss
        return cross_entropy(logits, targets)

    def has_plain_loss(self, *, background: bool) -> bool:
        """Return whether :meth:`plain_row_losses` is of the scores; see :meth:`scoring`."""
        return self.scoring(background=background) == self.kind

    def mean_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean of :meth:`row_losses`, a scalar; 0 with a graph for an empty batch.

        With :attr:`mean_is_over_weights` it is their sum by that of the weights.
        """
        if self.kind == "softmax":
            return self(logits, labels, reduction="mean")
        total = self(logits, self._targets(logits, labels), reduction="sum")
        return total / max(labels.numel(), 1)

    def fit_head(self, num_classes: int, *, background: bool) -> None:
        """Learn of the head: K, and whether its labels have a background; heads call it once."""

    def extra_columns(self, *, background: bool) -> Columns:
        """Return the names of the logits' columns after those of the K classes.

        Args:
            background: whether the labels have a background.
        """
        return ("background",) if self.kind == "softmax" and background else ()

    def scoring(self, *, background: bool) -> str:  # noqa: ARG002
        """Return how logits become scores: "softmax", "sigmoid" or another name."""
        return self.kind

    def scores(self, logits: Tensor) -> Tensor:
        """Return scores in [0, 1] of the K classes, the background's last if it has a column.

        Args:
            logits: ``(N, C)`` float.
        """
        return logits.softmax(dim=1) if self.kind == "softmax" else logits.sigmoid()

    def step(self, logits: Tensor, targets: Tensor) -> AbstractContextManager[None]:  # noqa: ARG002
        """Return a context for the loss of one training step: a running state moves, once.

        Losses outside of it leave the state alone, such as those for logging. In evaluation and
        without gradients it does not move either::

            with criterion.step(logits, labels):
                loss = criterion.mean_loss(logits, labels)

        Args:
            logits: of the loss.
            targets: labels ``(N,)``, or what :meth:`forward` takes.
        """
        return nullcontext()

    @staticmethod
    def _targets(logits: Tensor, labels: Tensor) -> Tensor:
        return one_hot_targets(labels, num_classes=logits.shape[1], dtype=logits.dtype)
