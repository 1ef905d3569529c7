"""No loss of the table diverges with its defaults: a training on separable points."""

from __future__ import annotations

import typing

import pytest
import torch
from torch import nn

from lt_det.losses import LOSSES
from lt_det.losses.bonus import Bonus
from lt_det.losses.criterion import Criterion

#: Long-tailed, and far apart: nothing but the loss keeps the logits from growing.
COUNTS = (96, 32, 12, 6)
NUM_CLASSES, NUM_FEATURES, NUM_STEPS = len(COUNTS), 8, 400
CHANCE = 1 / NUM_CLASSES

CASES = [
    *((name, {}) for name in sorted(LOSSES)),
    *(
        (name, {"bonus": bonus})
        for name in ("softmax_eureka", "eureka")
        for bonus in typing.get_args(Bonus)
        if bonus != LOSSES[name].hyperparameters()["bonus"]
    ),
    ("softmax_eureka", {"beta": 0.0}),
]


def train(name: str, hyperparameters: dict[str, object]) -> tuple[bool, float]:
    """Return whether all weights are finite, and the mean accuracy of the classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(NUM_CLASSES), torch.tensor(COUNTS))
    points = 2 * torch.eye(NUM_CLASSES, NUM_FEATURES)[labels]
    points = points + 0.25 * torch.randn(points.shape, generator=generator)
    criterion = Criterion(name, class_counts=COUNTS, num_images=sum(COUNTS) + 10, **hyperparameters)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(NUM_FEATURES, 32),
            nn.ReLU(),
            nn.Linear(32, 32),
            nn.ReLU(),
            nn.Linear(32, NUM_CLASSES),
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(NUM_STEPS):
            optimizer.zero_grad()
            logits = model(points)
            with criterion.step(logits, labels):
                criterion.mean_loss(logits, labels).backward()
            optimizer.step()
    with torch.no_grad():
        right = (model(points).argmax(dim=1) == labels).double()
    recalls = [float(right[labels == k].mean()) for k in range(NUM_CLASSES)]
    finite = all(bool(p.isfinite().all()) for p in model.parameters())
    return finite, sum(recalls) / NUM_CLASSES


@pytest.mark.parametrize(("name", "hyperparameters"), CASES, ids=str)
def test_learns_and_stays_finite(name, hyperparameters):
    finite, accuracy = train(name, hyperparameters)
    assert finite
    assert accuracy > 2 * CHANCE


@pytest.mark.parametrize("name", ["softmax_eureka", "eureka"])
def test_finds_the_log_bonus_without_its_clamp(name):
    finite, accuracy = train(name, {"bonus": "log", "clamp_eps": 0.0})
    assert not (finite and accuracy > 2 * CHANCE)
