"""Class-wise layers that compute one class for each region."""

from __future__ import annotations

from torch import Tensor, nn


def why_all_classes(layer: nn.Module, *, types: tuple[type, ...]) -> str:
    """Return why the output of ``layer`` may be more than its weight and bias say, or "".

    Args:
        layer: the layer that gives the outputs of all classes.
        types: of plain layers; not their subclasses, which may compute something else.
    """
    if type(layer) not in types:
        return f"{type(layer).__name__} is not a plain layer"
    # A hook may change what the layer computes (old-style weight norm does) or want to see it.
    if getattr(layer, "_forward_pre_hooks", None) or getattr(layer, "_forward_hooks", None):
        return "the layer has hooks"
    return ""


def class_rows(parameter: Tensor, classes: Tensor, *, num_classes: int) -> Tensor:
    """Return ``(R, n, ...)``: the n rows that each region's class has in ``parameter``.

    Args:
        parameter: ``(K * n, ...)``, class after class.
        classes: ``(R,)`` int64 in [0, K).
        num_classes: K.
    """
    by_class = parameter.unflatten(0, (num_classes, -1))
    # index_select: its gradient is index_add, which adds in a fixed order on the CPU.
    return by_class.index_select(0, classes)
