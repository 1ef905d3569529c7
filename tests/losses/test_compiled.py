"""Losses under torch.compile, without a break in the graph."""

from __future__ import annotations

import pytest
import torch

from lt_det.losses import LOSSES
from lt_det.losses.class_weights import ClassWeights
from lt_det.losses.criterion import Criterion

pytest.importorskip("torch._dynamo")

#: Draws at each call.
RANDOM = {"softmax_equalization": {"probability": 1.0}}


def batch(kind: str):
    logits = torch.randn(9, 5, requires_grad=True)
    labels = torch.arange(9) % 5
    return logits, labels if kind == "softmax" else torch.eye(5)[labels]


def both(function, name, backend):
    torch._dynamo.reset()
    logits, targets = batch(LOSSES[name].kind)
    results = []
    for call in (function, torch.compile(function, fullgraph=True, backend=backend)):
        logits.grad = None
        loss = call(logits, targets)
        loss.sum().backward()
        results.append((loss.detach(), logits.grad.clone()))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("name", LOSSES)
def test_functions(name):
    spec = LOSSES[name]
    counts = {"class_counts": torch.tensor([9.0, 5, 3, 2, 1], dtype=torch.float64)}
    counts["num_images"] = 20
    options = {**spec.hyperparameters(), **RANDOM.get(name, {})}
    options.update({n: counts[n] for n in spec.bound_arguments(**options)})
    both(lambda logits, targets: spec.function(logits, targets, **options), name, "eager")


@pytest.mark.parametrize("weights", [None, ClassWeights("inverse_frequency")])
@pytest.mark.parametrize("name", ["balanced_softmax", "balanced_sigmoid", "softmax_eureka"])
def test_criterion(name, weights):
    criterion = Criterion(
        name, class_counts=[9.0, 5, 3, 2, 1], num_images=20, class_weights=weights
    )
    both(criterion, name, "aot_eager" if weights is None else "eager")
