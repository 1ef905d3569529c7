"""Class weights from outside: background, several positives, counts that come late."""

from __future__ import annotations

import pytest
import torch

from lt_det.losses.class_weights import ClassWeights, row_weights
from lt_det.losses.criterion import Criterion

COUNTS = torch.tensor([90.0, 9.0, 1.0], dtype=torch.float64)
INVERSE = ClassWeights("inverse_frequency")


def test_background_weighs_one_and_leaves_the_mean_alone():
    foreground = INVERSE.of_counts(COUNTS)
    assert float(foreground.mean()) == pytest.approx(1.0)
    with_background = ClassWeights("inverse_frequency", background=True)
    for frequency in (1.0, 500.0):
        counts = torch.cat([COUNTS, torch.tensor([frequency], dtype=torch.float64)])
        weights = with_background.of_counts(counts)
        torch.testing.assert_close(weights[:3], foreground)
        assert weights[3] == 1


def test_inverse_frequency_is_by_hand():
    # 1/90, 1/9, 1 are 1 : 10 : 90, their mean 101 / 3
    expected = torch.tensor([3.0, 30.0, 270.0], dtype=torch.float64) / 101
    torch.testing.assert_close(INVERSE.of_counts(COUNTS), expected)


def test_row_with_several_positives_weighs_their_mean():
    targets = torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0]])
    weights = row_weights(torch.tensor([2.0, 3.0, 6.0]), targets)
    assert weights.tolist() == [[4.0], [1.0], [3.0]]


def test_no_weights_change_no_bit():
    logits, labels = torch.randn(300, 4), torch.randint(0, 4, (300,))
    ours = Criterion("softmax_ce", class_counts=[1.0, 2, 3, 4]).mean_loss(logits, labels)
    assert torch.equal(ours, torch.nn.functional.cross_entropy(logits, labels))


def test_weights_follow_new_counts_and_load_them_once():
    calls = []

    def load() -> tuple[torch.Tensor, int]:
        calls.append(1)
        return COUNTS, 100

    criterion = Criterion("softmax_ce", load_counts=load, class_weights=INVERSE)
    logits, labels = torch.zeros(2, 3, dtype=torch.float64), torch.tensor([2, 0])
    first = criterion(logits, labels)
    assert float(first[0] / first[1]) == pytest.approx(90.0)
    criterion(logits, labels)
    assert len(calls) == 1
    criterion.bind(COUNTS.flip(0), 100)
    second = criterion(logits, labels)
    assert float(second[1] / second[0]) == pytest.approx(90.0)
    assert not criterion.state_dict()


def test_unknown_weights_are_named():
    with pytest.raises(ValueError, match="name must be .*got 'sqrt'"):
        ClassWeights("sqrt")
    with pytest.raises(ValueError, match="one number for each of the 4 columns"):
        Criterion("softmax_ce", class_counts=COUNTS, class_weights=INVERSE)(
            torch.zeros(1, 4), torch.tensor([0])
        )
