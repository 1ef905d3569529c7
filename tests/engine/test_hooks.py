from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import torch

from lt_det.engine.hooks import SeedEachIteration


def draws(hook: SeedEachIteration, iteration: int) -> tuple:
    hook.trainer = SimpleNamespace(iter=iteration)
    hook.before_step()
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_random_state_is_a_function_of_seed_and_iteration():
    first = [draws(SeedEachIteration(3), i) for i in range(4)]
    assert [draws(SeedEachIteration(3), i) for i in range(4)] == first
    others = [draws(SeedEachIteration(4), i) for i in range(4)]
    # Each of the three generators is seeded anew in each iteration.
    for generator in zip(*(first + others)):
        assert len(set(generator)) == 8
