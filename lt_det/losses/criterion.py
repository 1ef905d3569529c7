"""The one object that every head holds: a loss with all bound but the batch."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import torch
from torch import Tensor, nn

from lt_det.losses import get_loss
from lt_det.losses.checks import check_class_counts
from lt_det.losses.reduction import Reduction
from lt_det.losses.targets import one_hot_targets

#: Returns ``class_counts`` (C,) and ``num_images``; called once, at the first training batch.
CountsLoader = Callable[[], "tuple[Tensor, int]"]


class Criterion(nn.Module):
    """A loss of :data:`lt_det.losses.LOSSES` with its hyper-parameters and class counts.

    It never averages: how to normalise (by regions, by anchors, by images) is a property of the
    head. Class counts may come late: inference needs none, so a model can be built where the
    training set is not.
    """

    class_counts: Tensor | None

    def __init__(
        self,
        name: str,
        *,
        class_counts: Tensor | Sequence[float] | None = None,
        num_images: int | None = None,
        load_counts: CountsLoader | None = None,
        **hyperparameters: Any,
    ) -> None:
        """Bind a loss.

        Args:
            name: row of the loss table.
            class_counts: ``(C,)``, one for each column of the logits; or a list.
            num_images: images with at least one annotation.
            load_counts: called at the first batch if ``class_counts`` was not given.
            hyperparameters: of the loss; defaults are those of its signature.

        Raises:
            KeyError: if there is no such loss.
            ValueError: if the loss has no such hyper-parameter, or a count is not positive and
                finite.
        """
        super().__init__()
        counts: Tensor | None = None
        if class_counts is not None:
            # A LazyConfig holds plain numbers only.
            if isinstance(class_counts, Tensor):
                counts = class_counts
            else:
                counts = torch.tensor([float(c) for c in class_counts], dtype=torch.float64)
            check_class_counts(counts.cpu(), num_columns=counts.numel(), num_images=None)
        self.spec = get_loss(name)
        known = self.spec.hyperparameters()
        unknown = sorted(hyperparameters.keys() - known.keys())
        if unknown:
            raise ValueError(f"loss {name!r} has no parameter {unknown}; it has {sorted(known)}")
        self.name = name
        self.hyperparameters = {**known, **hyperparameters}
        self.num_images = num_images
        self.load_counts = load_counts
        # A buffer, so that it follows .to(device). Not persistent: it belongs to the data set,
        # and a checkpoint must load on a data set with other counts.
        self.register_buffer("class_counts", counts, persistent=False)

    @property
    def kind(self) -> str:
        """Return "softmax" or "sigmoid"."""
        return self.spec.kind

    def bind(self, class_counts: Tensor, num_images: int) -> None:
        """Set the class counts ``(C,)`` and the number of annotated images.

        Raises:
            ValueError: if a count is not positive and finite.
        """
        check_class_counts(class_counts.cpu(), num_columns=class_counts.numel(), num_images=None)
        self.class_counts = class_counts
        self.num_images = num_images

    def forward(self, logits: Tensor, targets: Tensor, *, reduction: Reduction = "none") -> Tensor:
        """Return the element-wise loss: ``(N,)`` for softmax kinds, ``(N, K)`` for sigmoid kinds.

        Args:
            logits: ``(N, C)`` or ``(N, K)`` float.
            targets: labels ``(N,)`` int64 or targets ``(N, K)`` float, as the kind asks.
            reduction: "none", or over all elements "mean" or "sum".

        Raises:
            RuntimeError: if the loss needs class counts and none are bound.
        """
        return self.spec.function(
            logits, targets, reduction=reduction, **self._bound(logits), **self.hyperparameters
        )

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return ``(N,)`` losses, one a row, for integer labels of either kind.

        Sigmoid kinds are summed over classes, as Detectron2 does in its box head.

        Args:
            logits: ``(N, K + 1)`` for softmax kinds, ``(N, K)`` for sigmoid kinds.
            labels: ``(N,)`` int64 in ``[0, K]``, K = background.
        """
        if self.kind == "softmax":
            return self(logits, labels)
        return self(logits, self._targets(logits, labels)).sum(dim=1)

    def mean_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean of :meth:`row_losses`, a scalar; 0 with a graph for an empty batch."""
        if self.kind == "softmax":
            return self(logits, labels, reduction="mean")
        total = self(logits, self._targets(logits, labels), reduction="sum")
        return total / max(labels.numel(), 1)

    @staticmethod
    def _targets(logits: Tensor, labels: Tensor) -> Tensor:
        return one_hot_targets(labels, num_classes=logits.shape[1], dtype=logits.dtype)

    def _bound(self, logits: Tensor) -> dict[str, Any]:
        needed = self.spec.bound_arguments()
        if not needed:
            return {}
        if self.class_counts is None:
            if self.load_counts is None:
                raise RuntimeError(
                    f"loss {self.name!r} needs class counts and none are bound: pass "
                    "class_counts= (and num_images=) to Criterion, or call bind()"
                )
            self.bind(*self.load_counts())
        counts = self.class_counts
        if counts is not None and counts.device != logits.device:
            # A lazily loaded or late-bound buffer was not there when the model was moved.
            self.class_counts = counts = counts.to(logits.device)
        bound = {"class_counts": counts, "num_images": self.num_images}
        return {name: bound[name] for name in needed}

    def extra_repr(self) -> str:
        """Return the loss and its hyper-parameters, for ``print(model)``."""
        values = ", ".join(f"{name}={value!r}" for name, value in self.hyperparameters.items())
        return f"{self.name!r}" + (f", {values}" if values else "")
