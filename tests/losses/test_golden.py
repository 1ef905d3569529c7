"""Methods of the field on one small fixture, against numbers that the releases agree with."""

from __future__ import annotations

import pytest

from lt_det.losses.criterion import Criterion
from tests.losses.golden import IMAGES, LABELS, NUM_CLASSES, NUM_IMAGES, golden_logits

#: loss, parameters, columns, value of each step with the same batch
GOLDEN = [
    ("softmax_ce", {}, 5, [2.206856113]),
    ("sigmoid_ce", {}, 4, [3.260634995]),
    ("fedloss", {"num_sampled": 4}, 4, [2.482409663]),
    ("eqlv2", {}, 5, [4.089994188, 3.384303201]),
]


@pytest.mark.parametrize(("name", "parameters", "columns", "expected"), GOLDEN, ids=str)
def test_equals_the_release(name, parameters, columns, expected):
    criterion = Criterion(name, class_counts=IMAGES, num_images=NUM_IMAGES, **parameters)
    criterion.fit_head(NUM_CLASSES, background=True)
    logits = golden_logits(columns)
    found = []
    for _ in expected:
        with criterion.step(logits, LABELS):
            found.append(float(criterion.mean_loss(logits, LABELS)))
        print(f"{name:10} {found[-1]:.9f}")
    assert found == pytest.approx(expected, abs=1e-9)
