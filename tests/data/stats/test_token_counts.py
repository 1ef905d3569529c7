"""Class statistics of token ids."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lt_det.data.stats.token_counts import count_tokens

NAMES = ("the", "cat", "sat", "<pad>")


@given(st.lists(st.lists(st.sampled_from([-100, 0, 1, 2, 3]), max_size=6)), st.booleans())
def test_counts_equal_a_plain_restatement(texts, padding_is_an_id):
    ignored = 3 if padding_is_an_id else -100
    texts = [
        [0, 3],
        *([3 if i == -100 else i for i in t] if padding_is_an_id else t for t in texts),
    ]
    expected = Counter(token for text in texts for token in text if token != ignored)
    stats = count_tokens(iter(texts), NAMES, name="tale", ignore_index=ignored)
    assert stats.instance_counts == tuple(expected[i] for i in range(4))
    # A token is its own image, as a classified image is its own annotation.
    assert stats.image_counts == stats.instance_counts
    assert stats.num_images == sum(expected.values())
    assert stats.class_names == NAMES


def test_batches_and_tensors_are_taken_apart():
    batch = torch.tensor([[0, 1, -100], [1, 1, 2]])
    of_batch = count_tokens([batch], NAMES, name="tale")
    assert of_batch.instance_counts == (1, 3, 1, 0)
    assert of_batch == count_tokens(batch.to(torch.int32), NAMES, name="tale")
    ids = np.array([0, 3, 3], dtype=np.uint8)
    assert count_tokens([ids], NAMES, name="tale", ignore_index=None).image_counts == (1, 0, 0, 2)


def test_a_token_that_never_occurs_counts_as_elsewhere():
    stats = count_tokens([[0] * 101 + [1] * 11 + [2, -100]], NAMES, name="tale")
    assert stats.zero_count_classes == ("<pad>",)
    np.testing.assert_array_equal(stats.counts("instance"), [101.0, 11.0, 1.0, 1.0])
    assert stats.frequency_groups == ("f", "c", "r", "r")


@pytest.mark.parametrize("wrong", [4, -1])
def test_refuses_ids_outside_of_the_vocabulary(wrong):
    with pytest.raises(ValueError, match=rf"0\.\.3 .* 1 sequences.*sequence 1: {wrong}"):
        count_tokens([[0], [1, wrong]], NAMES, name="tale")


def test_refuses_words_and_nothing():
    with pytest.raises(ValueError, match="must be integers"):
        count_tokens([["the", "cat"]], NAMES, name="tale")
    for nothing in ([], [[]], [[-100, -100]]):
        with pytest.raises(ValueError, match="'tale': there is no token"):
            count_tokens(nothing, NAMES, name="tale")
