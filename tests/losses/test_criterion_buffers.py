"""Class counts follow the model to its device, and no cast of the model changes them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lt_det.losses.class_weights import ClassWeights
from lt_det.losses.criterion import Criterion

COUNTS = torch.tensor([100_000.0, 70_001.0, 3.0], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_counts_and_weights_survive_casts(dtype):
    """100,000 is more than float16 holds, 70,001 more than bfloat16 tells apart."""
    weights = ClassWeights("inverse_frequency")
    criterion = Criterion("balanced_softmax", class_counts=COUNTS, class_weights=weights)
    logits = torch.zeros(3, 3, dtype=torch.float64)
    expected = criterion(logits, LABELS)
    holder = nn.Sequential(nn.Linear(2, 2), criterion).to(dtype)
    assert holder[0].weight.dtype == dtype
    assert torch.equal(criterion.class_counts, COUNTS)
    assert torch.equal(criterion(logits, LABELS), expected)
    assert torch.isfinite(criterion(logits.to(dtype), LABELS)).all()


@pytest.mark.parametrize("lazily", [False, True])
def test_counts_bound_late_go_to_the_device_of_the_model(lazily):
    """DDP looks at all buffers when it wraps a model, before the first batch."""
    criterion = Criterion("balanced_softmax", load_counts=lambda: (COUNTS, 100_000))
    nn.Sequential(criterion).to("meta")  # any other device than the counts'
    if lazily:
        criterion(torch.zeros(3, 3, device="meta"), LABELS.to("meta"))
    else:
        criterion.bind(COUNTS, 100_000)
    assert criterion.class_counts.device.type == "meta"
    assert not criterion.state_dict()


def test_moving_to_a_device_keeps_the_dtype():
    criterion = Criterion("balanced_softmax", class_counts=COUNTS)
    criterion.to("meta", torch.float16)
    assert criterion.class_counts.device.type == "meta"
    assert criterion.class_counts.dtype == torch.float64
