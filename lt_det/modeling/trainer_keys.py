"""Stop other trainers at their first batch where a config has keys that only ours obeys."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lt_det.losses.base_criterion import BaseCriterion

#: Keys, off where empty, of the trainer; and of the loader that it builds.
OF_TRAINER = (
    "LT_DET.DECOUPLED",
    "LT_DET.META.ENABLED",
    "LT_DET.CLASSIFIER.DISALIGN",
    "LT_DET.RESET_CLASSIFIER",
    "LT_DET.REGION_CACHE.ENABLED",
    "LT_DET.START_CLASSES",
    "LT_DET.BEST_CHECKPOINT",
    "LT_DET.EARLY_STOPPING",
)
OF_LOADER = ("LT_DET.SAMPLER.NAME", "LT_DET.DEFER.SAMPLER", "LT_DET.COPY_PASTE.ENABLED")


def refuse_other_trainers(criterion: BaseCriterion, keys: list[str]) -> None:
    """Make the first call of ``criterion`` raise unless all ``keys`` are :func:`obeyed` by then.

    Detectron2's DefaultTrainer builds the same model, but would train all of it, on images drawn
    by DATALOADER.SAMPLER_TRAIN.
    """
    if keys:
        criterion.unmet_keys = set(keys)
        criterion.register_forward_pre_hook(_raise_if_unmet)


def obeyed(model: nn.Module, *keys: str) -> None:
    """Mark ``keys`` as obeyed for all losses in ``model``."""
    for module in model.modules():
        if isinstance(module, BaseCriterion) and module.unmet_keys:
            module.unmet_keys = set(module.unmet_keys) - set(keys)


def _raise_if_unmet(criterion: Any, _inputs: Any) -> None:
    if criterion.unmet_keys and torch.is_grad_enabled():  # without gradients nothing is trained
        raise RuntimeError(
            f"{' and '.join(sorted(criterion.unmet_keys))} would do nothing in this training: it "
            "is lt_det.engine.trainer.LongTailTrainer that reads the key. Use it (a trainer of "
            "your own can derive from it), or leave the key at its default"
        )
