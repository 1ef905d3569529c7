"""Classifier of a box predictor: its rows, its form, and what it takes from Detectron2's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lt_det.losses.spec import Columns
from lt_det.modeling.classifiers.disalign import DisAlignClassifier
from lt_det.modeling.classifiers.layers import CosineClassifier


def box_classifier(
    stock: nn.Linear,
    others: Columns,
    *,
    num_classes: int,
    cosine_scale: float | None = None,
    disalign: bool = False,
) -> nn.Module:
    """Return a classifier with the rows of ``stock`` that it has too.

    Args:
        stock: Detectron2's, K + 1 rows; returned as it is where nothing else is asked for.
        others: columns after those of the K classes.
        num_classes: K.
        cosine_scale: of a cosine classifier; None is a linear one.
        disalign: freeze it, with a learned calibration.
    """
    classifier: nn.Module = stock
    if others != ("background",):
        linear = nn.Linear(stock.in_features, num_classes + len(others))
        nn.init.normal_(linear.weight, std=0.01)  # as Detectron2 does
        nn.init.zeros_(linear.bias)
        # The rows Detectron2 has drawn, so that a seed gives the same start as there.
        take_rows(linear, stock, others, num_classes=num_classes, names=("weight",))
        classifier = linear
    if cosine_scale is not None:
        classifier = CosineClassifier(classifier, scale=cosine_scale)
    return DisAlignClassifier(classifier, num_classes=num_classes) if disalign else classifier


def take_rows(
    classifier: Any,
    stock: Any,
    others: Columns,
    *,
    num_classes: int,
    names: Sequence[str] = ("weight", "bias"),
) -> None:
    """Take over the rows of the K classes and of the background from K + 1 rows, in place."""
    k = num_classes
    with torch.no_grad():
        for name in names:
            rows, source = getattr(classifier, name), getattr(stock, name)
            rows[:k].copy_(source[:k])
            if "background" in others:
                rows[k + others.index("background")].copy_(source[k])
