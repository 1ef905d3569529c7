"""Class weights from outside: background, several positives, counts that come late."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lt_det.losses.class_weights import ClassWeights, row_weights
from lt_det.losses.criterion import Criterion
from tests.losses.golden import INSTANCES, LABELS, golden_logits

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


def test_powers_are_those_of_generalised_reweighting():
    """Golden numbers of DisAlign's loss, rho 0.8, instances; torch's weighted mean."""
    rule = ClassWeights("inverse_frequency", power=0.8, background=True, denominator="weights")
    counts = torch.tensor([*INSTANCES, 1389.0], dtype=torch.float64)
    expected = [3.368167893, 0.533818637, 0.084604552, 0.013408918, 1.0]
    assert rule.of_counts(counts).tolist() == pytest.approx(expected, abs=1e-9)
    criterion = Criterion("softmax_ce", class_counts=counts, class_weights=rule)
    found = float(criterion.mean_loss(golden_logits(5), LABELS))
    assert found == pytest.approx(2.457370423, abs=1e-9)
    equal = ClassWeights("inverse_frequency", power=0.0).of_counts(counts)
    assert equal.tolist() == [1.0] * 5


def test_given_weights_need_no_counts():
    rule = ClassWeights("given", values=(2, 0.5, 0.0))
    criterion = Criterion("softmax_ce", class_weights=rule)
    logits, labels = torch.randn(3, 3, dtype=torch.float64), torch.tensor([0, 1, 2])
    plain = Criterion("softmax_ce")(logits, labels)
    torch.testing.assert_close(criterion(logits, labels), plain * torch.tensor([2.0, 0.5, 0.0]))
    with_background = Criterion("softmax_ce", class_weights=replace(rule, background=True))
    logits, labels = torch.randn(4, 4), torch.arange(4)
    plain = Criterion("softmax_ce")(logits, labels)
    expected = plain * torch.tensor([2.0, 0.5, 0.0, 1.0])
    torch.testing.assert_close(with_background(logits, labels), expected)
    sigmoid = Criterion("sigmoid_ce", class_weights=rule)
    rows = Criterion("sigmoid_ce").row_losses(logits[:, :3], labels)
    expected = rows * torch.tensor([2.0, 0.5, 0.0, 1.0])  # the background is no column
    torch.testing.assert_close(sigmoid.row_losses(logits[:, :3], labels), expected)
    with pytest.raises(ValueError, match="one number for each of the 4 classes, .*got 3"):
        Criterion("softmax_ce", class_weights=rule)(logits, labels)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"name": "given"}, "values must be given with name 'given'"),
        ({"name": "inverse_frequency", "values": (1.0,)}, "and with no other, got 1 of them"),
        ({"name": "given", "values": (1.0, float("nan"))}, r"first \[1\]: nan"),
        ({"name": "given", "values": (1.0, -2.0)}, r"of at least 0, .*first \[1\]: -2.0"),
        ({"name": "given", "values": ("3", 1.0)}, r"first \[0\]: '3'"),
        ({"name": "given", "values": (0.0, 0.0)}, "must not all be 0"),
        ({"name": "given", "values": (1.0,), "beta": 0.9}, "beta 0.9 would do nothing"),
        ({"name": "inverse_frequency", "power": -1.0}, "power must be at least 0"),
    ],
)
def test_numbers_that_are_no_weights_are_named(keys, text):
    with pytest.raises(ValueError, match=text):
        ClassWeights(**keys)


def test_unknown_weights_are_named():
    with pytest.raises(ValueError, match="name must be .*got 'sqrt'"):
        ClassWeights("sqrt")
    with pytest.raises(ValueError, match="one number for each of the 4 columns"):
        Criterion("softmax_ce", class_counts=COUNTS, class_weights=INVERSE)(
            torch.zeros(1, 4), torch.tensor([0])
        )
