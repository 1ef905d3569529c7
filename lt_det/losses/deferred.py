"""Deferred loss: one loss up to an iteration, another from there on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

from torch import Tensor

from lt_det.losses.base_criterion import BaseCriterion
from lt_det.losses.reduction import Reduction
from lt_det.losses.spec import Columns

logger = logging.getLogger(__name__)


class DeferredCriterion(BaseCriterion):
    """``before`` in iterations 0 .. start - 1, ``after`` from iteration ``start`` on.

    DRW of LDAM and the Eureka paper's methods with a dagger. It keeps no count of its own: it asks
    for the iteration at each call, so it is right after a resume, and a checkpoint holds nothing
    of it.
    """

    def __init__(
        self,
        before: BaseCriterion,
        after: BaseCriterion,
        *,
        start_iteration: int | Callable[[], int],
        current_iteration: Callable[[], int | None],
    ) -> None:
        """Bind both losses.

        Args:
            before: the first loss.
            after: the last loss, of the same kind; gives the name.
            start_iteration: first iteration of ``after``, counted from 0; or called once, at the
                first loss, if it depends on the data set.
            current_iteration: called at each loss; None means outside of training: ``after``.

        Raises:
            ValueError: if the kinds differ.
        """
        if before.kind != after.kind:
            raise ValueError(
                f"before and after must be of one kind, got {before.name!r} of kind "
                f"{before.kind!r} and {after.name!r} of kind {after.kind!r}"
            )
        super().__init__()
        self.before, self.after = before, after
        self.name, self.kind = after.name, after.kind
        self.mean_is_over_weights = before.mean_is_over_weights or after.mean_is_over_weights
        self.logit_of, self.image_lists = after.logit_of, after.image_lists
        self._start, self._iteration = start_iteration, current_iteration
        self._switch_is_logged = False

    @property
    def start_iteration(self) -> int:
        """First iteration of ``after``."""
        if not isinstance(self._start, int):
            self._start = self._start()
        return self._start

    def current(self) -> BaseCriterion:
        """Return the loss of this iteration, and log once that the second one has begun."""
        iteration = self._iteration()
        if iteration is None:
            return self.after
        if iteration < self.start_iteration:
            return self.before
        if not self._switch_is_logged:
            self._switch_is_logged = True
            logger.info(
                "iteration %d: deferred loss %s, in use from iteration %d on",
                iteration,
                self.after.extra_repr(),
                self.start_iteration,
            )
        return self.after

    @property
    def hidden_logit(self) -> float:  # type: ignore[override]
        """That of this iteration's loss; see :attr:`BaseCriterion.hidden_logit`."""
        return self.current().hidden_logit

    @property
    def plain_hidden_logit(self) -> float:  # type: ignore[override]
        """That of ``after``; see :attr:`BaseCriterion.plain_hidden_logit`."""
        return self.after.plain_hidden_logit

    def forward(self, logits: Tensor, targets: Tensor, *, reduction: Reduction = "none") -> Tensor:
        """Return the loss of this iteration; see :meth:`BaseCriterion.forward`."""
        return self.current()(logits, targets, reduction=reduction)

    def fit_head(self, num_classes: int, *, background: bool) -> None:
        """Tell both losses of the head; see :meth:`BaseCriterion.fit_head`.

        Raises:
            ValueError: if their columns or scores differ: one classifier cannot serve both.
        """
        for what in ("extra_columns", "scoring"):
            one, other = (
                getattr(c, what)(background=background) for c in (self.before, self.after)
            )
            if one != other:
                raise ValueError(
                    f"before and after must have the same {what.replace('_', ' ')}, got "
                    f"{self.before.name!r} with {one!r} and {self.after.name!r} with {other!r}"
                )
        for criterion in (self.before, self.after):
            criterion.fit_head(num_classes, background=background)

    def extra_columns(self, *, background: bool) -> Columns:
        """Return the columns after the classes'; see :meth:`BaseCriterion.extra_columns`."""
        return self.after.extra_columns(background=background)

    def scoring(self, *, background: bool) -> str:
        """Return how logits become scores; see :meth:`BaseCriterion.scoring`."""
        return self.after.scoring(background=background)

    def scores(self, logits: Tensor) -> Tensor:
        """Return the scores; see :meth:`BaseCriterion.scores`."""
        return self.after.scores(logits)

    def plain_row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return those of ``after``, as the scores; see :meth:`BaseCriterion.plain_row_losses`."""
        return self.after.plain_row_losses(logits, labels)

    def has_plain_loss(self, *, background: bool) -> bool:
        """Return whether the scores have one; see :meth:`BaseCriterion.has_plain_loss`."""
        return self.after.has_plain_loss(background=background)

    def step(self, logits: Tensor, targets: Tensor) -> AbstractContextManager[None]:
        """Return the context of this iteration's loss; the state of the other one stays."""
        return self.current().step(logits, targets)
