"""Plot every loss and its gradient against the probability of the correct label.

The numbers are the loss functions' own, by autograd: a new row of the table needs nothing here.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lt_det.losses import LOSSES, PLAIN_LOSS
from lt_det.losses.criterion import Criterion
from lt_det.report.figure_file import save_figure

#: Training images of the two classes of all pictures, and of their data set.
RARE_IMAGES, FREQUENT_IMAGES, ALL_IMAGES = 10, 1000, 2000
#: Case -> (column, whether it is the correct label). Negatives are background rows.
_CASES = {
    "positive, rare class": (0, True),
    "positive, frequent class": (1, True),
    "negative, rare class": (0, False),
    "negative, frequent class": (1, False),
}
#: Choices that only scale class weights, and no choice of the loss.
_NOT_SHAPES = ("normalisation", "reduction")


@dataclass(frozen=True)
class LossCurve:
    """One loss of one example.

    Attributes:
        label: what tells it from the other curves of its loss; may be "".
        probability: ``(P,)``, p of the correct label, in (0, 1).
        loss: ``(P,)``, in nats.
        gradient: ``(P,)``, derivative by p, the paper's likelihood gradient.
    """

    label: str
    probability: np.ndarray
    loss: np.ndarray
    gradient: np.ndarray

    @property
    def logit_gradient(self) -> np.ndarray:
        """Return the derivative by the logit of p, which is what the network gets."""
        return self.gradient * self.probability * (1 - self.probability)

    def same_as(self, other: LossCurve) -> bool:
        """Return whether the losses are equal up to rounding."""
        return np.allclose(self.loss, other.loss, atol=1e-9)


def loss_curve(
    name: str,
    probability: np.ndarray,
    *,
    column: int = 0,
    positive: bool = True,
    label: str = "",
    **hyperparameters: Any,
) -> LossCurve:
    """Return the loss and its gradient at the given probabilities of the correct label.

    There are two classes, a rare one (column 0) and a frequent one; softmax kinds have no
    background here.

    Args:
        name: row of the loss table.
        probability: ``(P,)``, in (0, 1).
        column: of the class; for softmax kinds it is the label.
        positive: sigmoid kinds: the class is the label, or the row is background.
        label: name of the curve.
        hyperparameters: of the loss.
    """
    criterion = Criterion(
        name,
        class_counts=[RARE_IMAGES, FREQUENT_IMAGES],
        num_images=ALL_IMAGES,
        **hyperparameters,
    )
    p = torch.tensor(probability, dtype=torch.float64, requires_grad=True)
    # Element-wise losses: the other class's logit is 0 and does not matter to sigmoid kinds.
    own = torch.logit(p) if positive else -torch.logit(p)
    logits = torch.stack([own if i == column else torch.zeros_like(p) for i in range(2)], dim=1)
    # A loss that draws among the rows of a batch gets one at a time.
    batches = logits.split(1) if criterion.spec.draws else [logits]
    losses = torch.cat([_row_losses(criterion, z, column, positive=positive) for z in batches])
    (gradient,) = torch.autograd.grad(losses.sum(), p)
    return LossCurve(label, np.asarray(probability), losses.detach().numpy(), gradient.numpy())


def _row_losses(
    criterion: Criterion, logits: torch.Tensor, column: int, *, positive: bool
) -> torch.Tensor:
    if criterion.kind == "softmax":
        return criterion(logits, torch.full((len(logits),), column))
    targets = torch.zeros_like(logits)
    targets[:, column] = float(positive)
    return criterion(logits, targets)[:, column]


def loss_curves(name: str, probability: np.ndarray) -> list[LossCurve]:
    """Return all different curves of a loss: by label, by class, by named choice.

    A named choice is a hyper-parameter of type ``Literal``, such as the bonus of the Eureka loss;
    numbers have their defaults.

    Args:
        name: row of the loss table.
        probability: ``(P,)``, in (0, 1).
    """
    softmax = LOSSES[name].kind == "softmax"
    curves: list[LossCurve] = []
    for side in ("positive",) if softmax else ("positive", "negative"):
        cases = {case: where for case, where in _CASES.items() if case.startswith(side)}
        by_choice: list[tuple[str, list[LossCurve]]] = []
        for text, choice in _choices(name):
            variants = [
                loss_curve(
                    name, probability, column=column, positive=positive, label=case, **choice
                )
                for case, (column, positive) in cases.items()
            ]
            if variants[1].same_as(variants[0]):
                variants = [_renamed(variants[0], side)]
            new = [v for v in variants if not any(v.same_as(c) for _, cs in by_choice for c in cs)]
            by_choice.append((text, new))
        distinct = [(text, new) for text, new in by_choice if new]
        for text, new in distinct:
            prefix = f"{text}: " if len(distinct) > 1 else ""
            curves += [_renamed(curve, prefix + curve.label) for curve in new]
    return curves


def overview(probability: np.ndarray) -> dict[str, list[LossCurve]]:
    """Return kind -> the first curve of each of its losses: a positive of the rare class.

    Args:
        probability: ``(P,)``, in (0, 1).
    """
    kinds: dict[str, list[LossCurve]] = {}
    for name, spec in LOSSES.items():
        curve = _renamed(loss_curves(name, probability)[0], name)
        kinds.setdefault(f"{spec.kind} kind", []).append(curve)
    return kinds


def save_loss_plot(
    rows: Mapping[str, Sequence[LossCurve]],
    path: str | os.PathLike[str],
    *,
    reference: bool = True,
    dpi: int = 90,
) -> None:
    """Draw loss, likelihood gradient and logit gradient side by side into an image file.

    Args:
        rows: title -> curves; one row of three panels each.
        path: its ending says the format; written whole or not at all.
        reference: draw cross-entropy in grey beneath.
        dpi: dots an inch.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), 3, squeeze=False)
    for axes, (title, curves) in zip(grid, rows.items()):
        panels = (("loss", -5, 7), ("gradient", -9, 0), ("logit_gradient", -2.1, 0))
        for axis, (quantity, lowest, highest) in zip(axes, panels):
            if reference:
                p = curves[0].probability
                ce = loss_curve(PLAIN_LOSS["softmax"], p)
                axis.plot(p, getattr(ce, quantity), color="0.75", linewidth=4, label="CE")
            values = np.stack([getattr(curve, quantity) for curve in curves])
            for curve, style in zip(curves, _styles(curves)):
                axis.plot(curve.probability, getattr(curve, quantity), label=curve.label, **style)
            # Cut where curves run to infinity, but show half of each.
            middle = np.median(values, axis=1)
            bottom = min(max(values.min(), lowest), middle.min(), 0)
            top = max(min(values.max(), highest), middle.max(), 0)
            margin = 0.04 * (top - bottom)
            axis.set_ylim(bottom - margin, top + margin)
            axis.axhline(0, color="black", linewidth=0.5)
            axis.set(xlim=(0, 1), xlabel="p of the correct label")
        axes[0].set_title(f"{title}: loss", loc="left", fontsize=10)
        axes[1].set_title("gradient by p", loc="left", fontsize=10)
        axes[2].set_title("gradient by the logit of p", loc="left", fontsize=10)
        axes[2].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    save_figure(figure, path, dpi=dpi)


def _choices(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the loss as it is by default, then each other value of each named choice."""
    spec = LOSSES[name]
    hints: dict[str, Any] = {}
    for function in (spec.function, spec.hands_on_to):
        hints.update(typing.get_type_hints(function) if function is not None else {})
    first = True
    for key, default in spec.hyperparameters().items():
        if typing.get_origin(hints.get(key)) is typing.Literal and key not in _NOT_SHAPES:
            if first:
                yield f"{key}={default}", {}
            first = False
            for value in typing.get_args(hints[key]):
                if value != default:
                    yield f"{key}={value}", {key: value}
    if first:
        yield "", {}


def _renamed(curve: LossCurve, label: str) -> LossCurve:
    return LossCurve(label, curve.probability, curve.loss, curve.gradient)


def _styles(curves: Sequence[LossCurve]) -> list[dict[str, Any]]:
    """Return line styles: a colour for each choice, dashes for frequent, dots for negatives.

    Later lines are thinner, so that equal pieces show both.
    """
    names = [curve.label.rpartition(": ")[0] for curve in curves]
    if len(set(names)) == 1:
        names = [curve.label for curve in curves]
    order = list(dict.fromkeys(names))
    styles = []
    for curve, name in zip(curves, names):
        dash = ":" if "negative" in curve.label else "--" if "frequent" in curve.label else "-"
        index = order.index(name)
        width = 1.4 + 1.8 * (len(order) - 1 - index) / max(len(order) - 1, 1)
        styles.append({"color": f"C{index % 10}", "linestyle": dash, "linewidth": width})
    return styles
