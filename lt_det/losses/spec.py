"""The record of one loss in the loss table."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

Kind = Literal["softmax", "sigmoid"]

#: Arguments that a data set fixes; every other keyword-only argument is a hyper-parameter.
BOUND_ARGUMENTS = ("class_counts", "num_images")
_NOT_HYPERPARAMETERS = (*BOUND_ARGUMENTS, "background", "base_weights", "reduction")


@dataclass(frozen=True)
class LossSpec:
    """One row of the loss table.

    Attributes:
        function: the loss, ``f(logits, labels_or_targets, *, ...) -> Tensor``, element-wise by
            default.
        kind: "softmax" takes logits ``(N, C)`` and labels ``(N,)`` and returns ``(N,)``;
            "sigmoid" takes logits and targets ``(N, K)`` and returns ``(N, K)``. The kind also
            fixes how logits become scores at test time.
        source: the paper, as ``arXiv:NUMBER`` or in words.
        hands_on_to: function that gets the loss's ``**kwargs``; its keyword-only arguments are
            hyper-parameters as well. Where both have one, the default is the loss's.
        needs_counts: of the hyper-parameters; whether the loss needs :data:`BOUND_ARGUMENTS`.
            None: if it has such arguments.
        without_effect: of the class counts and the hyper-parameters; says why they make the loss
            plain cross-entropy, or nothing where they do not.
    """

    function: Callable[..., Tensor]
    kind: Kind
    source: str
    hands_on_to: Callable[..., Any] | None = None
    needs_counts: Callable[..., bool] | None = None
    without_effect: Callable[..., str] | None = None

    def bound_arguments(self, **hyperparameters: Any) -> tuple[str, ...]:
        """Return which of :data:`BOUND_ARGUMENTS` the loss needs for its hyper-parameters."""
        if self.needs_counts is not None and not self.needs_counts(**hyperparameters):
            return ()
        parameters = inspect.signature(self.function).parameters
        return tuple(name for name in BOUND_ARGUMENTS if name in parameters)

    @property
    def knows_background(self) -> bool:
        """Whether the loss treats a last column that is the background in another way."""
        return "background" in inspect.signature(self.function).parameters

    @property
    def weighs_base(self) -> bool:
        """Whether the loss takes weights of its rows that leave its bonus alone."""
        return "base_weights" in inspect.signature(self.function).parameters

    def hyperparameters(self) -> dict[str, Any]:
        """Return name -> default of every argument that a config may set."""
        defaults: dict[str, Any] = {}
        for function in (self.function, self.hands_on_to):
            if function is not None:
                for name, parameter in inspect.signature(function).parameters.items():
                    if parameter.kind is parameter.KEYWORD_ONLY:
                        defaults.setdefault(name, parameter.default)
        return {k: v for k, v in defaults.items() if k not in _NOT_HYPERPARAMETERS}
