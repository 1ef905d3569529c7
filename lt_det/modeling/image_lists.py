"""Hand the image lists of a training batch to the losses of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lt_det.losses.base_criterion import BaseCriterion
from lt_det.losses.image_lists import CLASS_KNOWLEDGE, ImageLists


def honour_lists(model: nn.Module) -> nn.Module:
    """Make the losses of ``model`` obey the lists of each training batch; return ``model``.

    Trainers of this package do it for a config. In a LazyConfig:
    ``model = L(honour_lists)(model=L(GeneralizedRCNN)(...))``. It changes no parameter and no name
    in a checkpoint. Samples must come from a
    :class:`~lt_det.tasks.listed_mapper.ListedMapper`.

    Args:
        model: detector that takes a list of samples; not wrapped in DDP.

    Raises:
        ValueError: if no loss of it has ``image_lists``.
    """
    if not has_lists(model):
        raise ValueError(
            f"no loss of {type(model).__name__} has image lists: build it with "
            "Criterion(..., image_lists=ImageLists(...))"
        )
    model.register_forward_pre_hook(_take_lists)
    return model


def has_lists(model: nn.Module) -> bool:
    """Return whether a loss of ``model`` has image lists."""
    return any(True for _ in _lists_of(model))


def take_lists(model: nn.Module, batch: Sequence[Any]) -> None:
    """Hand the lists of ``batch`` to the losses of ``model``; without any, those of before go.

    Args:
        model: detector.
        batch: samples with the key "class_knowledge", or objects with such an attribute.
    """
    lists = list(_lists_of(model))
    if not lists:
        return
    found = [_knowledge_of(sample) for sample in batch]
    knowledge = None
    if found and all(one is not None for one in found):
        device = next(model.parameters()).device
        knowledge = torch.stack(found).to(device, non_blocking=True)  # type: ignore[arg-type]
    for one in lists:
        one.knowledge = knowledge


@contextmanager
def lists_of(model: nn.Module, batch: Sequence[Any]) -> Iterator[None]:
    """Hand the lists of ``batch`` to the losses for the time of the block; those of before return.

    Args:
        model: as :func:`take_lists`.
        batch: see there.
    """
    before = [(one, one.knowledge) for one in _lists_of(model)]
    take_lists(model, batch)
    try:
        yield
    finally:
        for one, knowledge in before:
            one.knowledge = knowledge


def _take_lists(model: nn.Module, inputs: tuple) -> None:
    if model.training:
        take_lists(model, inputs[0])


def _knowledge_of(sample: Any) -> Tensor | None:
    if isinstance(sample, dict):
        return sample.get(CLASS_KNOWLEDGE)
    return getattr(sample, CLASS_KNOWLEDGE, None)


def _lists_of(model: nn.Module) -> Iterator[ImageLists]:
    for module in model.modules():
        if isinstance(module, BaseCriterion) and module.image_lists is not None:
            yield module.image_lists
