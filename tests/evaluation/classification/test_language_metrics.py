"""F-scores and distinct-n against scalar re-statements and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lt_det.evaluation.classification.language_metrics import (
    TokenMatches,
    distinct_n,
    macro_f1,
    micro_f1,
    position_matches,
    text_matches,
)
from tests.reference import language as reference

VOCABULARY = 7
TOKENS = st.integers(0, VOCABULARY - 3)  # the last ids never occur
TEXTS = st.lists(st.lists(TOKENS, max_size=9), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def positions() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    labels = generator.choice(VOCABULARY - 2, size=(20, 8), p=[0.5, 0.3, 0.15, 0.05, 0.0])
    predicted = np.where(
        generator.random(labels.shape) < 0.6, labels, generator.integers(0, 5, labels.shape)
    )
    labels[:, 6:] = -100
    return labels, predicted


def test_positions_equal_scikit_learn(positions):
    f1_score = pytest.importorskip("sklearn.metrics").f1_score
    labels, predicted = positions
    matches = position_matches(labels, predicted, num_tokens=VOCABULARY)
    keep = labels != -100
    assert set(predicted[keep]) - set(labels[keep]) == {4}  # predicted, but never right
    expected = {a: f1_score(labels[keep], predicted[keep], average=a) for a in ("macro", "micro")}
    assert macro_f1(matches) == pytest.approx(expected["macro"], abs=1e-12)
    assert micro_f1(matches) == pytest.approx(expected["micro"], abs=1e-12)
    assert micro_f1(matches) == pytest.approx((labels == predicted)[keep].mean())
    rare = f1_score(labels[keep], predicted[keep], average="macro", labels=[2, 3])
    assert macro_f1(matches, np.array([2, 3, 6])) == pytest.approx(rare, abs=1e-12)


def test_positions_of_batches_add_up(positions):
    labels, predicted = positions
    whole = position_matches(labels, predicted, num_tokens=VOCABULARY)
    parts = [
        position_matches(torch.tensor(labels[rows]), predicted[rows], num_tokens=VOCABULARY)
        for rows in (slice(0, 3), slice(3, None))
    ]
    added = parts[0] + parts[1]
    for field in ("correct", "predicted", "actual"):
        np.testing.assert_array_equal(getattr(added, field), getattr(whole, field))
    assert whole.actual.sum() == 120


def test_ignored_positions():
    labels, predicted = [0, 1, 6, -100], [0, 2, 6, 0]
    matches = position_matches(labels, predicted, num_tokens=VOCABULARY)
    assert (micro_f1(matches), macro_f1(matches)) == (pytest.approx(2 / 3), 0.5)
    padded = position_matches(labels[:3], predicted[:3], num_tokens=VOCABULARY, ignore_index=6)
    assert (micro_f1(padded), macro_f1(padded)) == (0.5, pytest.approx(1 / 3))
    everything = position_matches([6], [6], num_tokens=VOCABULARY, ignore_index=None)
    assert everything.correct.tolist() == [0] * 6 + [1]


@given(st.lists(st.tuples(st.lists(TOKENS, max_size=9), st.lists(TOKENS, max_size=9)), max_size=5))
def test_texts_equal_a_scalar_restatement(pairs):
    references, generated = [r for r, _ in pairs], [g for _, g in pairs]
    matches = text_matches(references, generated, num_tokens=VOCABULARY)
    correct = [t for r, g in pairs for t in reference.overlap(r, g)]
    actual, predicted = sum(references, []), sum(generated, [])
    assert matches.correct.tolist() == [correct.count(t) for t in range(VOCABULARY)]
    if correct:
        counts = (correct, predicted, actual)
        assert macro_f1(matches) == pytest.approx(reference.macro_f1(*counts))
        assert micro_f1(matches) == pytest.approx(reference.micro_f1(*counts))
    elif actual or predicted:
        assert macro_f1(matches) == micro_f1(matches) == 0


def test_texts_equal_scikit_learn():
    """With no word twice in a text, texts are rows of a multi-label problem."""
    f1_score = pytest.importorskip("sklearn.metrics").f1_score
    generator = np.random.default_rng(1)
    wanted, found = generator.random((2, 12, VOCABULARY)) < 0.4
    wanted[:, 5:], found[:, 4:] = False, False
    matches = text_matches(
        [generator.permutation(np.flatnonzero(row)) for row in wanted],
        [generator.permutation(np.flatnonzero(row)) for row in found],
        num_tokens=VOCABULARY,
    )
    micro = f1_score(wanted, found, average="micro")
    macro = f1_score(wanted[:, :5], found[:, :5], average="macro")
    assert micro_f1(matches) == pytest.approx(micro, abs=1e-12)
    assert macro_f1(matches) == pytest.approx(macro, abs=1e-12)


def test_words_match_within_their_own_text_and_once_each():
    matches = text_matches([[1, 1, 2], [3]], [[1, 3, 1, 1], [2, 3]], num_tokens=VOCABULARY)
    assert matches.correct.tolist() == [0, 2, 0, 1, 0, 0, 0]
    assert matches.predicted.tolist() == [0, 3, 1, 2, 0, 0, 0]
    assert matches.actual.tolist() == [0, 2, 1, 1, 0, 0, 0]


def test_nothing_to_score():
    empty = text_matches([[]], [[]], num_tokens=VOCABULARY)
    assert isinstance(empty, TokenMatches)
    assert math.isnan(macro_f1(empty))
    assert math.isnan(micro_f1(empty))
    assert math.isnan(macro_f1(text_matches([[1]], [[1]], num_tokens=2), np.array([0])))


@given(TEXTS, st.integers(1, 5))
def test_distinct_n_equals_a_scalar_restatement(texts, n):
    found = distinct_n(texts, n=n)
    if all(len(text) < n for text in texts):
        assert math.isnan(found)
    else:
        assert found == pytest.approx(reference.distinct(texts, n))


def test_distinct_4_by_hand():
    # 1234 2345 | 1234 | too short. Across texts there would be 5123 and more.
    texts = [[1, 2, 3, 4, 5], [1, 2, 3, 4], [9]]
    assert distinct_n(texts) == pytest.approx(2 / 3)
    assert distinct_n([torch.tensor(text) for text in texts]) == pytest.approx(2 / 3)
    assert distinct_n([["a", "cat", "a", "cat"]], n=2) == pytest.approx(2 / 3)


def test_refusals():
    with pytest.raises(ValueError, match=r"one shape, got \(2,\) and \(1,\)"):
        position_matches([0, 1], [0], num_tokens=VOCABULARY)
    with pytest.raises(ValueError, match="each of the 2 references, got 1"):
        text_matches([[0], [1]], [[0]], num_tokens=VOCABULARY)
    for wrong in ([7], [-100]):
        with pytest.raises(ValueError, match=rf"\[0, 7\).*{wrong[0]}"):
            text_matches([[0]], [wrong], num_tokens=VOCABULARY)
        with pytest.raises(ValueError, match=rf"\[0, 7\).*{wrong[0]}"):
            position_matches([0], wrong, num_tokens=VOCABULARY)
    with pytest.raises(ValueError, match="must be integers"):
        position_matches([0], [0.0], num_tokens=VOCABULARY)
    with pytest.raises(ValueError, match="n must be at least 1"):
        distinct_n([[1]], n=0)
    with pytest.raises(ValueError, match="sequence of tokens"):
        distinct_n(["a cat"])
