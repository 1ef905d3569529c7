"""Running state of a loss: what it has seen of the training, one number a class.

A loss stays a pure function: it gets the state's numbers as arguments. The state moves by
:meth:`LossState.update` alone, which a head calls once a training step (by
:meth:`~lt_det.losses.base_criterion.BaseCriterion.step`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lt_det.losses.kept_dtypes import KeptDtypes


class LossState(KeptDtypes):
    """Base of all states: buffers that a checkpoint keeps, equal on all ranks.

    A subclass registers its buffers, float64 where sums run for the whole training, and says what
    a batch adds (:meth:`of_batch`) and how that is taken in (:meth:`add`). The sum over ranks lies
    between the two and has no condition, so no rank waits for one that had no foreground. Learned
    parameters may be registered as well; they train with the head.

    Attributes:
        moves: whether the state moves "before" the loss of the same batch, or "after".
        provides: arguments of the loss that :meth:`arguments` gives.
        frozen: see :func:`frozen_states`.
        num_classes: K, in the order of the data set's ``thing_classes``.
    """

    moves: ClassVar[Literal["before", "after"]] = "after"
    provides: ClassVar[tuple[str, ...]] = ()
    frozen: bool = False

    def __init__(self, num_classes: int) -> None:
        """Start as a training does."""
        super().__init__()
        self.num_classes = num_classes

    @abstractmethod
    def arguments(self) -> dict[str, Tensor]:
        """Return what the loss gets: name of :attr:`provides` -> tensor."""

    @abstractmethod
    def of_batch(self, logits: Tensor, targets: Tensor, **parameters: Any) -> Tensor:
        """Return what this rank's batch adds, always of the same shape; zeros if nothing.

        Args:
            logits: as the loss gets them, detached.
            targets: as the loss gets them.
            parameters: the hyper-parameters of the loss, and ``background``.
        """

    @abstractmethod
    def add(self, total: Tensor) -> None:
        """Take in the sum of :meth:`of_batch` over all ranks."""

    @torch.no_grad()
    def update(self, logits: Tensor, targets: Tensor, **parameters: Any) -> None:
        """Move the state by one batch of all ranks, which must all call it.

        In evaluation, and where the state is frozen, nothing happens.
        """
        if self.frozen or not self.training:
            return
        # A view with gaps would be reduced wrongly, without an error.
        total = self.of_batch(logits.detach(), targets, **parameters).contiguous()
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(total)
        self.add(total)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # Weights of another loss have none: the state starts anew.
        for name, buffer in self._buffers.items():
            if buffer is not None:
                state_dict.setdefault(f"{prefix}{name}", buffer.clone())
        super()._load_from_state_dict(state_dict, prefix, *args)


@contextmanager
def frozen_states(model: nn.Module) -> Iterator[None]:
    """Keep the states of all losses in ``model`` where they are: for a loss that is no step."""
    states = [m for m in model.modules() if isinstance(m, LossState) and not m.frozen]
    for state in states:
        state.frozen = True
    try:
        yield
    finally:
        for state in states:
            state.frozen = False
