"""Iterations of a trainer, one at a time."""

from __future__ import annotations

from collections.abc import Callable

from detectron2.engine import DefaultTrainer
from detectron2.utils.events import EventStorage


def stepper(trainer: DefaultTrainer) -> Callable[[], None]:
    """Return a function that trains for one iteration, as :meth:`TrainerBase.train` does."""
    trainer.model.train()
    trainer.iter = 0

    def step() -> None:
        with EventStorage(trainer.iter) as trainer.storage:
            trainer.run_step()
        trainer.iter += 1

    return step
