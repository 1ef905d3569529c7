from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lt_det.losses import balanced_sigmoid_loss
from lt_det.losses.criterion import Criterion
from lt_det.losses.targets import one_hot_targets
from tests.reference import losses as reference

COUNTS = torch.tensor([900.0, 100.0, 10.0, 1.0], dtype=torch.float64)
NUM_IMAGES = 1000
LABELS = torch.tensor([0, 1, 2, 3, 4, 4])  # 4 = background


@pytest.fixture
def batch():
    logits = torch.randn(6, 4, dtype=torch.float64)
    return logits, one_hot_targets(LABELS, num_classes=4, dtype=torch.float64)


@pytest.mark.parametrize("keep_constant", [False, True])
def test_equals_the_printed_formula(batch, keep_constant):
    logits, targets = batch
    loss = balanced_sigmoid_loss(
        logits,
        targets,
        class_counts=COUNTS,
        num_images=NUM_IMAGES,
        keep_constant=keep_constant,
    )
    expected = [
        reference.balanced_sigmoid(
            z, y if y < 4 else None, COUNTS.tolist(), NUM_IMAGES, keep_constant
        )
        for z, y in zip(logits.tolist(), LABELS.tolist())
    ]
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64))


def test_background_rows_are_plain_to_the_last_bit(batch):
    logits, targets = batch
    loss = balanced_sigmoid_loss(logits, targets, class_counts=COUNTS, num_images=NUM_IMAGES)
    plain = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    assert torch.equal(loss[4:], plain[4:])
    assert not torch.isclose(loss[:4], plain[:4]).any()


def test_half_frequency_is_plain(batch):
    """pi = 1/2 has offset 0: value and gradient are those of the binary cross-entropy."""
    logits, targets = batch
    logits.requires_grad_()
    half = torch.full((4,), NUM_IMAGES / 2)
    ours = balanced_sigmoid_loss(logits, targets, class_counts=half, num_images=NUM_IMAGES)
    plain = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(
        *(torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0] for loss in (ours, plain))
    )


def test_rare_classes_are_spared_and_pulled(batch):
    """On foreground rows the push on a rare class shrinks about by pi, the pull grows."""
    targets = one_hot_targets(torch.tensor([0]), num_classes=4, dtype=torch.float64)
    logits = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    balanced_sigmoid_loss(
        logits, targets, class_counts=COUNTS, num_images=NUM_IMAGES
    ).sum().backward()
    frequency = COUNTS / NUM_IMAGES
    expected = frequency.clone()  # sigmoid(0 - log((1 - pi) / pi)) = pi
    expected[0] -= 1
    torch.testing.assert_close(logits.grad[0], expected)


def test_class_in_every_image_stays_finite(batch):
    logits, targets = batch
    counts = COUNTS.clone()
    counts[0] = NUM_IMAGES
    loss = balanced_sigmoid_loss(logits, targets, class_counts=counts, num_images=NUM_IMAGES)
    assert torch.isfinite(loss).all()


def test_counting_instances_is_noticed(batch):
    with pytest.raises(ValueError, match="count images, not instances"):
        balanced_sigmoid_loss(*batch, class_counts=COUNTS * 10, num_images=NUM_IMAGES)


def test_binding_counts_above_the_images_is_refused_at_once():
    """At the first batch, and on a GPU not even there: each class in every image."""
    criterion = Criterion("balanced_sigmoid")
    with pytest.raises(ValueError, match="num_images must be at least.*count images, not inst"):
        criterion.bind(COUNTS, 500)
    criterion.bind(COUNTS, NUM_IMAGES)
    Criterion("balanced_softmax").bind(COUNTS, 500)  # looks at the counts' ratios only
