"""Class-balanced image weights and the endless stream drawn from them."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lt_det.data.sampling.samplers import (
    WeightedImageSampler,
    class_balanced_image_weights,
    class_image_counts,
    classes_of_images,
    rarest_class_weights,
)


def take(sampler, n):
    return list(itertools.islice(iter(sampler), n))


def test_classes_are_listed_once_sorted_and_without_crowds():
    annotations = [
        {"category_id": 5},
        {"category_id": 2, "iscrowd": 0},
        {"category_id": 5},
        {"category_id": 1, "iscrowd": 1},
    ]
    assert classes_of_images([{"annotations": annotations}, {}]) == [[2, 5], []]


def test_an_image_weighs_as_its_rarest_class():
    # 4 annotated images: class 0 in 4 of them, class 1 in 2, class 2 in 1, class 3 in none.
    weights = class_balanced_image_weights([[0], [0, 1], [], [0, 0, 1, 2], [0]], num_classes=4)
    np.testing.assert_array_equal(weights, [1, 2, 0, 4, 1])
    assert weights.dtype == np.float64


@given(st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1).filter(any))
def test_weights_equal_a_plain_restatement(images):
    annotated = [set(image) for image in images if image]
    factor = {
        c: len(annotated) / sum(c in image for image in annotated) for c in set().union(*annotated)
    }
    expected = [max((factor[c] for c in image), default=0.0) for image in images]
    np.testing.assert_allclose(class_balanced_image_weights(images, num_classes=5), expected)


def test_weights_are_detectron2s_repeat_factors_squared():
    samplers = pytest.importorskip("detectron2.data.samplers")
    generator = np.random.default_rng(0)
    images = [sorted(set(generator.zipf(1.7, size=3).clip(max=9) - 1)) for _ in range(50)]
    dicts = [{"annotations": [{"category_id": int(c)} for c in image]} for image in images]
    make = samplers.RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    factors = make(dicts, 1.0).double().numpy()  # threshold 1: sqrt(1 / f)
    weights = class_balanced_image_weights(images, num_classes=9)
    np.testing.assert_allclose(weights, factors**2, rtol=1e-5)


@pytest.mark.parametrize(
    ("images", "text"),
    [
        ([[0], [1, 7]], r"0\.\.2.*first \[1\]: \[1, 7\]"),
        ([[-1]], "0.*first"),
        ([[], []], "2 images"),
    ],
)
def test_bad_image_classes_are_named(images, text):
    with pytest.raises(ValueError, match=text):
        class_balanced_image_weights(images, num_classes=3)


def test_frequencies_are_proportional_to_the_weights():
    weights = np.array([1.0, 0.0, 3.0, 6.0])
    draws = np.bincount(take(WeightedImageSampler(weights, seed=1), 40_000), minlength=4) / 40_000
    assert draws[1] == 0
    # Five standard errors of the most variable of the four, sqrt(0.24 / 40000).
    np.testing.assert_allclose(draws, weights / 10, atol=5 * 0.0025)


def test_rare_class_is_drawn_far_more_often_than_it_occurs():
    images = [[0]] * 95 + [[0, 1]] * 4 + [[2]]
    sampler = WeightedImageSampler(class_balanced_image_weights(images, num_classes=3), seed=0)
    drawn = [images[index] for index in take(sampler, 20_000)]
    share = [np.mean([c in image for image in drawn]) for c in range(3)]
    # Weights: 95 images of 100/99, 4 of 25, 1 of 100: in all 295.96.
    np.testing.assert_allclose(share, [0.662, 0.338, 0.338], atol=0.02)


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_ranks_together_are_the_single_stream(world_size):
    weights, n = np.arange(1.0, 8.0), 3000  # longer than a block of draws
    single = take(WeightedImageSampler(weights, seed=5), n)
    for rank in range(world_size):
        part = WeightedImageSampler(weights, seed=5, rank=rank, world_size=world_size)
        assert take(part, len(single[rank::world_size])) == single[rank::world_size]


@given(start=st.integers(0, 4000), seed=st.integers(0, 2**40))
def test_the_stream_can_be_entered_anywhere(start, seed):
    weights = np.arange(1.0, 8.0)
    whole = take(WeightedImageSampler(weights, seed=seed), start + 5)
    assert take(WeightedImageSampler(weights, seed=seed, start=start), 5) == whole[start:]


def test_going_on_after_a_stop_gives_every_rank_its_own_indices():
    weights = np.arange(1.0, 8.0)
    for rank in (0, 1):
        whole = take(WeightedImageSampler(weights, seed=2, rank=rank, world_size=2), 20)
        rest = WeightedImageSampler(weights, seed=2, rank=rank, world_size=2, start=2 * 12)
        assert take(rest, 8) == whole[12:]


def test_streams_of_other_seeds_and_blocks_differ_and_iterating_twice_does_not():
    weights = np.ones(1024)
    first, again, other = (
        take(WeightedImageSampler(weights, seed=seed), 2048) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert first[:1024] != first[1024:]
    sampler = WeightedImageSampler(weights, seed=0)
    assert take(sampler, 50) == take(sampler, 50) == take(pickle.loads(pickle.dumps(sampler)), 50)


def test_neither_global_randomness_is_used_nor_the_weights_changed():
    weights = torch.tensor([1.0, 2.0])
    before = torch.get_rng_state()
    first = take(WeightedImageSampler(weights, seed=0), 100)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert take(WeightedImageSampler(weights, seed=0), 100) == first
    assert weights.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"weights": []}, "weights"),
        ({"weights": [0.0, 0.0]}, "at least one above 0"),
        ({"weights": [1.0, -1.0]}, "weights"),
        ({"weights": [1.0, float("nan")]}, "finite"),
        ({"weights": [[1.0]]}, r"shape \(1, 1\)"),
        ({"rank": 2, "world_size": 2}, "rank.*2 of 2"),
        ({"seed": -1}, "seed"),
        ({"start": -1}, "start"),
    ],
)
def test_bad_arguments_are_named(arguments, text):
    with pytest.raises(ValueError, match=text):
        WeightedImageSampler(**{"weights": [1.0], "seed": 0, **arguments})


def test_progressive_stream_goes_from_the_first_weights_to_the_last():
    first, last = [1.0] * 4, [0.0, 0.0, 0.0, 1.0]
    sampler = WeightedImageSampler(first, last_weights=last, draws=3 * 1024, seed=0)
    drawn = np.array(take(sampler, 4 * 1024)).reshape(4, 1024)
    shares = (drawn == 3).mean(axis=1)
    # 1/4 of the draws, half way between, all; and all after the end.
    np.testing.assert_allclose(shares, [0.25, 0.625, 1.0, 1.0], atol=0.05)


def test_progressive_stream_mixes_probabilities_whatever_the_weights_sum_to():
    sampler = WeightedImageSampler([1e6, 0], last_weights=[0, 3], draws=3 * 1024, seed=0)
    assert np.mean(take(sampler, 2 * 1024)[1024:]) == pytest.approx(0.5, abs=0.05)
    with pytest.raises(ValueError, match="last_weights must have 2 entries as weights has, got 1"):
        WeightedImageSampler([1, 1], last_weights=[1], seed=0)
    with pytest.raises(ValueError, match="last_weights must be 1 to"):
        WeightedImageSampler([1, 1], last_weights=[1, -1], seed=0)


def test_image_of_several_classes_weighs_as_the_rarest():
    weights = rarest_class_weights([[0, 2], [1], [], [2, 1, 0]], np.array([0.1, 0.7, 0.3]))
    assert weights.tolist() == [0.3, 0.7, 0.0, 0.7]


def test_counts_are_of_images():
    counts = class_image_counts([[0, 0], [0, 1], []], num_classes=3)
    assert counts.tolist() == [2, 1, 1]  # the class without an image counts as one


def test_classified_images_are_their_own_annotation():
    assert classes_of_images([{"category_id": 4, "image_id": 1, "file_name": "x"}]) == [[4]]
