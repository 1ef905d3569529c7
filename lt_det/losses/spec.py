"""Row of the loss table: a function and what heads must know of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from lt_det.losses.activations import BESIDE_BACKGROUND, sigmoid_scores, softmax_scores
from lt_det.losses.image_lists import HIDDEN
from lt_det.losses.state import LossState

Kind = Literal["softmax", "sigmoid"]

#: Arguments that a data set fixes; every other keyword-only argument is a hyper-parameter.
BOUND_ARGUMENTS = ("class_counts", "num_images")
_NOT_HYPERPARAMETERS = (*BOUND_ARGUMENTS, "background", "base_weights", "generator", "reduction")
#: Names of the columns that come after those of the K classes, in their order.
Columns = tuple[str, ...]


@dataclass(frozen=True)
class LossSpec:
    """One row of the loss table.

    Attributes:
        function: the loss, ``f(logits, labels_or_targets, *, ...) -> Tensor``, element-wise by
            default.
        kind: "softmax" takes logits ``(N, C)`` and labels ``(N,)`` and returns ``(N,)``;
            "sigmoid" takes logits and targets ``(N, K)`` and returns ``(N, K)``.
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
        columns: of a detector's logits, after those of the K classes: the rows of a classifier in
            a checkpoint, in this order. "background" takes its row from a classifier with one.
            None: the background for kind "softmax", none for "sigmoid". Where there is no
            background (images, dense detectors) there are none of them; a function of
            ``background`` and the hyper-parameters says otherwise.
        scores: logits ``(N, C)`` to scores, see :mod:`lt_det.losses.activations`; gets
            ``background``, and what it asks for of :data:`BOUND_ARGUMENTS` and the
            hyper-parameters. None: softmax or sigmoid, as the kind.
        logit_of: probability to logit, the inverse of ``scores`` for one class of a sigmoid kind,
            for the bias at the start. None: that of the sigmoid.
        plain: the loss without any correction, ``f(logits, labels_or_targets, *, ...)``,
            element-wise as ``function``: ``-log`` of the probability that ``scores`` give what is
            right. Gets what it asks for of ``background``, :data:`BOUND_ARGUMENTS` that the loss
            needs and the hyper-parameters. None: the cross-entropy of the kind, which a loss with
            ``scores`` has none of.
        hidden_logit: what image lists put in place of a logit that the loss must not feel. Minus
            infinity for a loss to which a logit that low is not yet an absent class; it treats that
            one as absent.
        state: class of the running state; None: the loss has none.
        wants_cosine: whether the loss is meant for the bounded logits of a cosine classifier.
        knows_background: whether the loss treats a last column that is the background in another
            way. Read from the signature, as all below.
        weighs_base: whether the loss takes weights of its rows that leave its bonus alone.
        draws: whether the loss draws numbers from a generator.
        counts_background: whether class counts have an entry for the background.
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
    columns: Columns | Callable[..., Columns] | None = None
    scores: Callable[..., Tensor] | None = None
    logit_of: Callable[[Tensor], Tensor] | None = None
    plain: Callable[..., Tensor] | None = None
    hidden_logit: float = HIDDEN
    state: type[LossState] | None = None
    wants_cosine: bool = False
    knows_background: bool = field(init=False)
    weighs_base: bool = field(init=False)
    draws: bool = field(init=False)
    counts_background: bool = field(init=False)
    defaults: Mapping[str, Any] = field(init=False, repr=False, compare=False)
    takes: tuple[str, ...] = field(init=False)
    _scores_take: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _plain_takes: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Read the signatures, once: heads ask at each training batch.

        Raises:
            ValueError: if ``weighs_classes_by`` is none of the hyper-parameters.
        """
        parameters = inspect.signature(self.function).parameters
        more = inspect.signature(self.hands_on_to).parameters if self.hands_on_to else {}
        provided = self.state.provides if self.state is not None else ()
        # The loss's own default comes first: it may be another than that of what it hands on to.
        defaults = {
            name: parameter.default
            for name, parameter in {**parameters, **more, **parameters}.items()
            if parameter.kind is parameter.KEYWORD_ONLY
            and name not in (*_NOT_HYPERPARAMETERS, *provided)
        }
        names = (*BOUND_ARGUMENTS, *defaults)
        scores_take = inspect.signature(self._scores).parameters
        plain_takes = inspect.signature(self.plain).parameters if self.plain else {}
        for name, value in (
            ("knows_background", "background" in parameters),
            ("weighs_base", "base_weights" in parameters),
            ("draws", "generator" in parameters),
            ("counts_background", self.kind == "softmax" and self.columns is None),
            ("defaults", defaults),
            ("takes", tuple(name for name in BOUND_ARGUMENTS if name in parameters)),
            ("_scores_take", tuple(n for n in names if n in scores_take)),
            ("_plain_takes", tuple(n for n in ("background", *names) if n in plain_takes)),
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

    @property
    def _scores(self) -> Callable[..., Tensor]:
        if self.scores is not None:
            return self.scores
        return softmax_scores if self.kind == "softmax" else sigmoid_scores

    def scores_of(self, logits: Tensor, *, background: bool, **arguments: Any) -> Tensor:
        """Return the scores of ``(N, C)`` logits; of ``arguments``, ``scores`` gets what it takes.

        Args:
            logits: of one kind of head.
            background: whether the last column is the background's.
            arguments: hyper-parameters and bound arguments.
        """
        taken = {name: arguments[name] for name in self._scores_take}
        return self._scores(logits, background=background, **taken)

    def plain_of(self, logits: Tensor, targets: Tensor, **arguments: Any) -> Tensor:
        """Return the loss :attr:`plain`, which there must be; it gets what it takes of the rest."""
        assert self.plain is not None
        return self.plain(logits, targets, **{name: arguments[name] for name in self._plain_takes})

    @property
    def scores_are_bound(self) -> bool:
        """Whether ``scores`` needs one of :data:`BOUND_ARGUMENTS`."""
        return any(name in BOUND_ARGUMENTS for name in self._scores_take)

    def scoring(self, *, background: bool) -> str:
        """Return "softmax", "sigmoid", or the name of another activation."""
        plain = self.scores in BESIDE_BACKGROUND and not background
        if self.scores is None or plain:
            return self.kind
        return self.scores.__name__

    def extra_columns(self, *, background: bool, **hyperparameters: Any) -> Columns:
        """Return the columns after those of the K classes.

        Args:
            background: whether the labels have a background.
            hyperparameters: of the loss.
        """
        if callable(self.columns):
            return self.columns(background=background, **hyperparameters)
        if not background:
            return ()
        if self.columns is None:
            return ("background",) if self.kind == "softmax" else ()
        return self.columns
