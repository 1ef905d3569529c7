"""Row of the loss table: a function and what heads must know of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
        weighs_classes_by: hyper-parameter that makes a part of the loss weigh the classes by their
            counts where it is not 0; class weights beside it would weigh that part twice.
        takes_out_prior: whether training with the loss takes the class prior out of the logits.
        wants_cosine: whether the loss is meant for the bounded logits of a cosine classifier.
        knows_background: whether the loss treats a last column that is the background in another
            way. Read from the signature, as all below.
        weighs_base: whether the loss takes weights of its rows that leave its bonus alone.
        defaults: name -> default of every argument that a config may set.
        takes: which of :data:`BOUND_ARGUMENTS` are arguments of the loss.
    """

    function: Callable[..., Tensor]
    kind: Kind
    source: str
    hands_on_to: Callable[..., Any] | None = None
    needs_counts: Callable[..., bool] | None = None
    without_effect: Callable[..., str] | None = None
    weighs_classes_by: str = ""
    takes_out_prior: bool = False
    wants_cosine: bool = False
    knows_background: bool = field(init=False)
    weighs_base: bool = field(init=False)
    defaults: Mapping[str, Any] = field(init=False, repr=False, compare=False)
    takes: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Read the signatures, once: heads ask at each training batch.

        Raises:
            ValueError: if ``weighs_classes_by`` is none of the hyper-parameters.
        """
        parameters = inspect.signature(self.function).parameters
        more = inspect.signature(self.hands_on_to).parameters if self.hands_on_to else {}
        # The loss's own default comes first: it may be another than that of what it hands on to.
        defaults = {
            name: parameter.default
            for name, parameter in {**parameters, **more, **parameters}.items()
            if parameter.kind is parameter.KEYWORD_ONLY and name not in _NOT_HYPERPARAMETERS
        }
        for name, value in (
            ("knows_background", "background" in parameters),
            ("weighs_base", "base_weights" in parameters),
            ("defaults", defaults),
            ("takes", tuple(name for name in BOUND_ARGUMENTS if name in parameters)),
        ):
            object.__setattr__(self, name, value)  # frozen
        if self.weighs_classes_by and self.weighs_classes_by not in defaults:
            raise ValueError(
                f"weighs_classes_by must be '' or one of {sorted(defaults)}, got "
                f"{self.weighs_classes_by!r}"
            )

    def bound_arguments(self, **hyperparameters: Any) -> tuple[str, ...]:
        """Return which of :data:`BOUND_ARGUMENTS` the loss needs for its hyper-parameters."""
        if self.needs_counts is not None and not self.needs_counts(**hyperparameters):
            return ()
        return self.takes

    def hyperparameters(self) -> dict[str, Any]:
        """Return name -> default of every argument that a config may set."""
        return dict(self.defaults)
