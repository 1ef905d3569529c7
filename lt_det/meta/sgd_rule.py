"""One SGD step as a pure function, and its derivative by the gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class SGDRule:
    """Next step of ``torch.optim.SGD`` for one parameter, as a pure function.

    Attributes:
        lr: learning rate.
        momentum: factor of the old buffer.
        dampening: the new gradient enters an existing buffer with ``1 - dampening``.
        weight_decay: added to the gradient, times the parameter.
        nesterov: whether the step looks ahead.
        momentum_buffer: the optimizer's buffer, None before its first step.
    """

    lr: float
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    momentum_buffer: Tensor | None = None

    def step(self, param: Tensor, grad: Tensor) -> Tensor:
        """Return the parameter after one step; nothing is changed in place."""
        grad = grad + self.weight_decay * param
        if self.momentum == 0:
            return param - self.lr * grad
        if self.momentum_buffer is None:
            buffer = grad
        else:
            buffer = self.momentum * self.momentum_buffer + (1 - self.dampening) * grad
        direction = grad + self.momentum * buffer if self.nesterov else buffer
        return param - self.lr * direction

    def slope(self) -> float:
        """Return d :meth:`step` / d grad, the same for every element.

        Momentum and weight decay move the step but not the form of its derivative.
        """
        if self.momentum == 0:
            return -self.lr
        into_buffer = 1.0 if self.momentum_buffer is None else 1 - self.dampening
        return -self.lr * (1 + self.momentum * into_buffer if self.nesterov else into_buffer)


def plain_rules(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict:
    """Return rules of plain gradient descent at the optimizer's present learning rates."""
    return {name: SGDRule(lr=group["lr"]) for name, group in _groups(optimizer, parameters).items()}


def optimizer_rules(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict:
    """Return rules that repeat the next step of the SGD ``optimizer``.

    Raises:
        TypeError: if the optimizer is not ``torch.optim.SGD``.
    """
    if not isinstance(optimizer, torch.optim.SGD):
        raise TypeError(
            "inner_step 'optimizer' repeats a step of torch.optim.SGD, "
            f"got {type(optimizer).__name__}; use 'sgd'"
        )
    return {
        name: SGDRule(
            lr=group["lr"],
            momentum=group["momentum"],
            dampening=group["dampening"],
            weight_decay=group["weight_decay"],
            nesterov=group["nesterov"],
            momentum_buffer=optimizer.state.get(parameters[name], {}).get("momentum_buffer"),
        )
        for name, group in _groups(optimizer, parameters).items()
    }


def _groups(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict:
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    missing = [name for name, p in parameters.items() if id(p) not in group_of]
    if missing:
        raise ValueError(
            f"the optimizer does not train the classifier parameters {missing}; the Meta "
            "Reweighter differentiates through their next step"
        )
    return {name: group_of[id(p)] for name, p in parameters.items()}
