"""Methods of the field on one small fixture, against numbers that the releases agree with."""

from __future__ import annotations

import pytest
import torch

from lt_det.losses import (
    efl_loss,
    equilibrium_loss,
    gumbel_loss,
    ldam_loss,
    seesaw_loss,
    sigmoid_ce_loss,
    softmax_equalization_loss,
)
from lt_det.losses.criterion import Criterion
from lt_det.losses.droploss import kept_elements
from lt_det.losses.targets import one_hot_targets
from tests.losses.golden import IMAGES, INSTANCES, LABELS, NUM_CLASSES, NUM_IMAGES, golden_logits

#: loss, parameters, columns, value of each step with the same batch
GOLDEN = [
    ("softmax_ce", {}, 5, [2.206856113]),
    ("sigmoid_ce", {}, 4, [3.260634995]),
    ("fedloss", {"num_sampled": 4}, 4, [2.482409663]),
    ("eql", {}, 4, [3.019276000]),
    ("eqlv2", {}, 5, [4.089994188, 3.384303201]),
    # classes, and objectness
    ("seesaw", {}, 6, [2.268746363 + 0.593547174, 2.176993849 + 0.593547174]),
    ("acsl", {}, 5, [2.125290943]),
    ("ecm", {}, 5, [3.139808455]),
    ("iif", {}, 5, [5.103333185]),
]
TARGETS = one_hot_targets(LABELS, num_classes=NUM_CLASSES, dtype=torch.float64)


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


@pytest.mark.parametrize(
    ("loss", "draw", "expected"),
    [
        (sigmoid_ce_loss, 0.9, 2.566819415),
        (sigmoid_ce_loss, 0.1, 3.019276000),
        (gumbel_loss, 0.9, 2.580329531),
        (gumbel_loss, 0.1, 2.935724290),
    ],
)
def test_dropped_elements_equal_the_release(loss, draw, expected):
    rare = torch.tensor(IMAGES) / NUM_IMAGES < 0.0011
    kept = kept_elements(TARGETS, rare, torch.full(TARGETS.shape, draw))
    found = float((loss(golden_logits(4), TARGETS) * kept).sum() / len(LABELS))
    assert found == pytest.approx(expected, abs=1e-9)


def test_equalized_focal_loss_equals_the_release():
    balance = torch.tensor([0.1, 0.5, 0.8, 1.0], dtype=torch.float64)
    found = efl_loss(golden_logits(4), TARGETS, balance=balance, reduction="sum")
    assert float(found) == pytest.approx(3.778432489, abs=1e-9)


def test_group_softmax_equals_the_release():
    """There a group's others come first; eqlv2's release of BAGS, 10 columns."""
    criterion = Criterion("bags", class_counts=INSTANCES, num_images=NUM_IMAGES)
    criterion.fit_head(NUM_CLASSES, background=True)
    columns = [1, 3, 5, 7, 0, 2, 4, 6, 8, 9]
    found = criterion.mean_loss(golden_logits(10)[:, columns], LABELS)
    assert float(found) == pytest.approx(3.535883864, abs=1e-9)


def test_equilibrium_loss_equals_the_release():
    scores = torch.tensor([0.01, 0.02, 0.3, 0.6], dtype=torch.float64)
    found = equilibrium_loss(
        golden_logits(5), LABELS, mean_scores=scores, background=True, reduction="mean"
    )
    assert float(found) == pytest.approx(4.267304722, abs=1e-9)


def test_ldam_of_foreground_rows_equals_the_release():
    """Its classes alone; in a detector the background's column has no margin."""
    counts = torch.tensor(IMAGES, dtype=torch.float64)
    found = ldam_loss(golden_logits(4)[:3] * 30, LABELS[:3], class_counts=counts, reduction="mean")
    assert float(found) == pytest.approx(48.389139965, abs=1e-8)


def test_softmax_equalization_of_foreground_rows_equals_the_release():
    """With every draw below the probability."""
    found = softmax_equalization_loss(
        golden_logits(4)[:3],
        LABELS[:3],
        class_counts=torch.tensor(INSTANCES, dtype=torch.float64),
        threshold=0.005,
        probability=1.0,
        reduction="mean",
    )
    assert float(found) == pytest.approx(1.888347292, abs=1e-9)


def test_seesaw_after_many_rows_equals_the_release():
    criterion = Criterion("seesaw")
    criterion.fit_head(NUM_CLASSES, background=True)
    criterion.state.counts += torch.tensor([1.0, 10, 100, 1000])  # before the batch
    logits = golden_logits(6)
    with criterion.step(logits, LABELS):
        found = float(criterion.mean_loss(logits, LABELS))
    assert found == pytest.approx(1.914243924 + 0.593547174, abs=1e-9)
    counts = criterion.state.arguments()["seen_counts"]
    assert counts.tolist() == [2, 11, 100, 1001]
    classes = seesaw_loss(
        logits[:3], LABELS[:3], seen_counts=counts, background=True, reduction="sum"
    )
    assert float(classes) / len(LABELS) < found
