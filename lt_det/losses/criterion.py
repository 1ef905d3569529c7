"""Criterion: a loss with its parameters and class counts, as every head holds it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lt_det.losses import get_loss
from lt_det.losses.base_criterion import BaseCriterion
from lt_det.losses.checks import check_class_counts, check_finite
from lt_det.losses.class_weights import ClassWeights, row_weights
from lt_det.losses.draws import Draws
from lt_det.losses.image_lists import ImageLists
from lt_det.losses.kept_dtypes import KeptDtypes
from lt_det.losses.reduction import Reduction, reduce_loss
from lt_det.losses.spec import Columns
from lt_det.losses.state import LossState

logger = logging.getLogger(__name__)

#: Returns ``class_counts`` (C,) and ``num_images``; called once, at the first training batch.
CountsLoader = Callable[[], "tuple[Tensor, int]"]


class Criterion(KeptDtypes, BaseCriterion):
    """A loss of :data:`lt_det.losses.LOSSES` with its hyper-parameters and class counts.

    Class weights, if any, multiply the loss of each row, for "none" and "sum" as well. What a mean
    divides by is their ``denominator``: the rows, or the sum of the rows' weights. The latter is
    for losses of kind "softmax" only; a bonus (Eureka) stays out of it, with weights of its own and
    divided by the rows, as its release has it.

    It never averages: how to normalise (by regions, by anchors, by images) is a property of the
    head. Class counts may come late: inference needs none, so a model can be built where the
    training set is not.

    Attributes:
        background: whether the last column is the background of a detector; its head sets it.
        state: running state, if the loss has one and the number of classes is known: from the
            head, the counts or the first logits. It moves by :meth:`step` alone.
        draws: where a loss that draws gets its numbers from; None is torch's own random state.
    """

    class_counts: Tensor | None
    weights: Tensor | None
    _anchor: Tensor
    background: bool = False
    state: LossState | None
    draws: Draws | None = None

    def __init__(
        self,
        name: str,
        *,
        class_counts: Tensor | Sequence[float] | None = None,
        num_images: int | None = None,
        load_counts: CountsLoader | None = None,
        class_weights: ClassWeights | None = None,
        image_lists: ImageLists | None = None,
        **hyperparameters: Any,
    ) -> None:
        """Bind a loss.

        Args:
            name: row of the loss table.
            class_counts: ``(C,)``, one for each column of the logits; or a list.
            num_images: images with at least one annotation.
            load_counts: called at the first batch if ``class_counts`` was not given.
            class_weights: weights by class, from the counts; None is no weights.
            image_lists: what heads hide from the loss; see :class:`BaseCriterion`.
            hyperparameters: of the loss; defaults are those of its signature.

        Raises:
            KeyError: if there is no such loss.
            ValueError: if the loss has no such hyper-parameter, its value is out of range, a
                count is not positive and finite, or the weights' denominator is not for its kind.
        """
        super().__init__()
        counts: Tensor | None = None
        if class_counts is not None:
            if isinstance(class_counts, Tensor):
                counts = class_counts
            else:  # a LazyConfig holds plain numbers only
                counts = torch.tensor([float(c) for c in class_counts], dtype=torch.float64)
            check_class_counts(counts.cpu(), num_columns=counts.numel(), num_images=None)
        self.spec = get_loss(name)
        known = self.spec.hyperparameters()
        unknown = sorted(hyperparameters.keys() - known.keys())
        if unknown:
            raise ValueError(f"loss {name!r} has no parameter {unknown}; it has {sorted(known)}")
        self.name, self.kind, self.image_lists = name, self.spec.kind, image_lists
        self.hyperparameters = {**known, **hyperparameters}
        self._needed = self.spec.bound_arguments(**self.hyperparameters)
        self._check_hyperparameters()
        if class_weights is not None and class_weights.denominator == "weights":
            if self.kind == "sigmoid":  # divided by rows, or by foreground anchors
                raise ValueError(
                    "denominator 'weights' is the weighted mean of a softmax loss, got "
                    f"{name!r} of kind 'sigmoid': set 'rows'"
                )
            self.mean_is_over_weights = True
        self._warn_without_effect(counts, num_images)
        self.num_images, self.load_counts = num_images, load_counts
        self.class_weights = class_weights
        # Buffers follow .to(device) and keep their dtype; a checkpoint must load with other counts.
        self.register_buffer("class_counts", counts, persistent=False)
        self.register_buffer("weights", None, persistent=False)
        self.register_buffer("_anchor", torch.empty(0), persistent=False)  # on the model's device
        self.state, self.logit_of = None, self.spec.logit_of
        self.hidden_logit = self.spec.hidden_logit
        if self.spec.plain is not None:
            self.plain_hidden_logit = self.hidden_logit
        if counts is not None and not self.spec.counts_background:
            self._begin_state(counts.numel())

    def _check_hyperparameters(self) -> None:
        """Try the parameters on one row: a deferred loss would fail hours later."""
        check_finite(self.hyperparameters)
        counts = {"class_counts": torch.ones(2, dtype=torch.float64), "num_images": 3}
        logits = torch.zeros(1, 2)
        targets = logits if self.kind == "sigmoid" else torch.zeros(1, dtype=torch.int64)
        with torch.random.fork_rng(devices=[]):  # some losses draw numbers
            bound = {name: counts[name] for name in self._needed}
            self.spec.function(logits, targets, **bound, **self.hyperparameters)

    def fit_head(self, num_classes: int, *, background: bool) -> None:
        """Learn of the head; see :meth:`BaseCriterion.fit_head`. A state starts here."""
        self.background = "background" in self.extra_columns(background=background)
        self._begin_state(num_classes)

    def _begin_state(self, num_classes: int) -> LossState | None:
        if self.spec.state is None:
            return None
        if self.state is None or self.state.num_classes != num_classes:
            state = self.spec.state(num_classes).to(self._anchor.device)
            self.state = state.train(self.training)
        return self.state

    def extra_columns(self, *, background: bool) -> Columns:
        """Return the columns after the classes'; see :meth:`BaseCriterion.extra_columns`."""
        return self.spec.extra_columns(background=background, **self.hyperparameters)

    def scoring(self, *, background: bool) -> str:
        """Return how logits become scores; see :meth:`BaseCriterion.scoring`."""
        return self.spec.scoring(background=background)

    def scores(self, logits: Tensor) -> Tensor:
        """Return the scores; see :meth:`BaseCriterion.scores`."""
        arguments = {"background": self.background, **self.hyperparameters}
        if self.spec.scores_are_bound:
            arguments |= {"class_counts": self._counts(logits), "num_images": self.num_images}
        return self.spec.scores_of(logits, **arguments)

    def _plain(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.spec.plain is None:
            return super()._plain(logits, targets)
        arguments = {"background": self.background, **self.hyperparameters, **self._bound(logits)}
        return self.spec.plain_of(logits, targets, **arguments)

    def has_plain_loss(self, *, background: bool) -> bool:
        """Return whether there is one; see :meth:`BaseCriterion.has_plain_loss`."""
        return self.spec.plain is not None or super().has_plain_loss(background=background)

    def step(self, logits: Tensor, targets: Tensor) -> AbstractContextManager[None]:
        """Return a context in which the state moves; see :meth:`BaseCriterion.step`."""
        if self.spec.state is None or not torch.is_grad_enabled():
            return nullcontext()
        return self._moving(logits.detach(), targets)

    @contextmanager
    def _moving(self, logits: Tensor, targets: Tensor) -> Iterator[None]:
        state = self._state_of(logits)
        assert state is not None
        if self.kind == "sigmoid" and not targets.is_floating_point():
            targets = self._targets(logits, targets)
        parameters = {"background": self.background, **self.hyperparameters}
        if state.moves == "before":
            state.update(logits, targets, **parameters)
        yield
        if state.moves == "after":
            state.update(logits, targets, **parameters)

    def _state_of(self, logits: Tensor) -> LossState | None:
        if self.state is None and self.spec.state is not None:
            extra = self.extra_columns(background=self.background)
            self._begin_state(logits.shape[1] - len(extra))
        return self.state

    def bind(self, class_counts: Tensor, num_images: int) -> None:
        """Set the class counts ``(C,)`` and the number of annotated images.

        The counts go to the device of the model that holds this criterion.

        Raises:
            ValueError: if a count is not positive and finite, or where the loss needs shares of
                images above the number of images.
        """
        check_class_counts(
            class_counts.cpu(),
            num_columns=class_counts.numel(),
            num_images=num_images if "num_images" in self._needed else None,
        )
        self._warn_without_effect(class_counts, num_images)
        self.class_counts = class_counts.to(self._anchor.device)
        self.num_images = num_images
        self.weights = None

    def _warn_without_effect(self, class_counts: Tensor | None, num_images: int | None) -> None:
        if class_counts is None or self.spec.without_effect is None:
            return
        parameters = {**self._of_background(), **self.hyperparameters}
        reason = self.spec.without_effect(class_counts, num_images=num_images, **parameters)
        if reason:
            logger.warning("loss %r is plain cross-entropy here: %s", self.name, reason)

    def forward(self, logits: Tensor, targets: Tensor, *, reduction: Reduction = "none") -> Tensor:
        """Return the loss times the weights; see :meth:`BaseCriterion.forward`."""
        arguments = {**self._bound(logits), **self._of_background(), **self.hyperparameters}
        state = self._state_of(logits)
        if state is not None:
            arguments.update(state.arguments())
        if self.spec.draws and self.draws is not None:
            arguments["generator"] = self.draws.generator(logits.device)
        if self.class_weights is None:
            return self.spec.function(logits, targets, reduction=reduction, **arguments)
        dtype = torch.promote_types(logits.dtype, torch.float32)  # as the losses
        weights = row_weights(self._weights(self.class_weights, logits).to(dtype), targets)
        if self.mean_is_over_weights:
            if reduction == "mean":  # then the mean over rows is what is asked for
                weights = weights * (weights.numel() / weights.sum())
            if self.spec.weighs_base:
                arguments["base_weights"] = weights
                return self.spec.function(logits, targets, reduction=reduction, **arguments)
        losses = self.spec.function(logits, targets, **arguments)
        return reduce_loss(losses * weights, reduction)

    def _weights(self, class_weights: ClassWeights, logits: Tensor) -> Tensor:
        if self.weights is None or self.weights.device != logits.device:
            extra = self.extra_columns(background=self.background)
            uncounted = 0 if self.spec.counts_background else len(extra)
            counted = logits.shape[1] - uncounted
            if class_weights.values:
                weights = class_weights.given(counted, device=logits.device)
            else:
                check_class_counts(counts := self._counts(logits), num_columns=counted)
                weights = class_weights.of_counts(counts)
            self.weights = torch.cat([weights, weights.new_ones(uncounted)])
        return self.weights

    def _of_background(self) -> dict[str, bool]:
        return {"background": self.background} if self.spec.knows_background else {}

    def _bound(self, logits: Tensor) -> dict[str, Any]:
        if not self._needed:
            return {}
        bound = {"class_counts": self._counts(logits), "num_images": self.num_images}
        return {name: bound[name] for name in self._needed}

    def annotated_images(self) -> int:
        """Return the number of annotated images, with the counts' loader if it is not bound.

        Raises:
            RuntimeError: if there is neither.
        """
        return self._load()[1] if self.num_images is None else self.num_images

    def _counts(self, logits: Tensor) -> Tensor:
        counts = self._load()[0] if self.class_counts is None else self.class_counts
        if counts.device != logits.device:  # logits of another device than the model's
            self.class_counts = counts = counts.to(logits.device)
        return counts

    def _load(self) -> tuple[Tensor, int]:
        if self.load_counts is None:
            raise RuntimeError(
                f"loss {self.name!r} needs class counts and none are bound: pass class_counts= "
                "and num_images= to Criterion, or call bind()"
            )
        counts, num_images = self.load_counts()
        self.bind(counts, num_images)
        return counts, num_images

    def extra_repr(self) -> str:
        """Return the loss and its hyper-parameters, for ``print(model)``."""
        values = ", ".join(f"{name}={value!r}" for name, value in self.hyperparameters.items())
        weights = f", class_weights={self.class_weights}" if self.class_weights else ""
        return f"{self.name!r}" + (f", {values}" if values else "") + weights


def set_place_of_draws(criterion: BaseCriterion, place: int) -> None:
    """Make a criterion draw other numbers than those at other places of a model, in place."""
    for part in criterion.modules():
        if isinstance(part, Criterion) and part.draws is not None:
            part.draws = replace(part.draws, place=place)
