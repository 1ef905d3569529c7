import json
from collections import Counter

import numpy as np
import pytest

from demo.long_tail import deal_slots, lvis_tail_image_counts


def groups(counts):
    counts = np.asarray(counts)
    return [(counts <= 10).mean(), ((counts > 10) & (counts <= 100)).mean(), (counts > 100).mean()]


@pytest.mark.parametrize("num_classes", [40, 80, 120])
def test_the_tail_is_that_of_real_lvis_v1(shared_data, num_classes):
    categories = json.loads((shared_data / "lvis" / "lvis_v1_train_cat_info.json").read_text())
    real = np.sort([c["image_count"] for c in categories])
    ours = np.asarray(lvis_tail_image_counts(num_classes, max_image_count=400))
    np.testing.assert_allclose(groups(ours), groups(real), atol=1 / num_classes)
    # Below 100 images nothing is squeezed: our counts are the quantiles of the real ones.
    expected = np.quantile(real, (np.arange(num_classes) + 0.5) / num_classes)
    below = expected <= 100
    np.testing.assert_allclose(ours[below], expected[below], rtol=0.05, atol=1)
    # Above it, the logarithm is squeezed by one common factor.
    squeezed = 100 * (400 / 100) ** (np.log(expected[~below] / 100) / np.log(real[-1] / 100))
    np.testing.assert_allclose(ours[~below], squeezed, rtol=0.05)


def test_the_largest_class_gets_close_to_the_maximum_and_none_gets_more():
    counts = lvis_tail_image_counts(200, max_image_count=300)
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert 290 <= counts[-1] <= 300


def test_a_maximum_without_frequent_classes_is_refused():
    with pytest.raises(ValueError, match="max_image_count must be above 100"):
        lvis_tail_image_counts(10, max_image_count=100)


@pytest.mark.parametrize("seed", range(5))
def test_every_class_is_dealt_to_exactly_its_number_of_images(seed):
    counts = lvis_tail_image_counts(60, max_image_count=400)
    num_images = round(sum(counts) / 6)
    hands = deal_slots(counts, num_images=num_images, max_slots=10, rng=np.random.default_rng(seed))
    assert len(hands) == num_images
    assert all(1 <= len(hand) <= 10 for hand in hands)
    # In how many images, not how often: a class twice in an image would count once.
    in_images = Counter(class_id for hand in hands for class_id in set(hand))
    assert [in_images[c] for c in range(60)] == counts
    assert all(len(set(hand)) == len(hand) for hand in hands)


def test_the_tightest_deal_that_exists_is_found():
    # Every class in every image: one solution, no room for a wrong move.
    hands = deal_slots([4, 4, 4], num_images=4, max_slots=3, rng=np.random.default_rng(0))
    assert [sorted(hand) for hand in hands] == [[0, 1, 2]] * 4


@pytest.mark.parametrize("seed", range(30))
def test_small_sets_are_dealt_whatever_sizes_the_images_drew(seed):
    hands = deal_slots([1, 2, 3, 4], num_images=5, max_slots=10, rng=np.random.default_rng(seed))
    counted = Counter(class_id for hand in hands for class_id in set(hand))
    assert [counted[c] for c in range(4)] == [1, 2, 3, 4]
    assert min(map(len, hands)) >= 1


def test_rare_classes_share_images_with_all_kinds_of_classes():
    counts = [300] * 10 + [3] * 40
    hands = deal_slots(counts, num_images=700, max_slots=10, rng=np.random.default_rng(0))
    with_rare = [len(hand) for hand in hands if max(hand) >= 10]
    mean = np.mean([len(hand) for hand in hands])
    # Size-biased, but not pushed into the emptiest or fullest images.
    assert mean - 1 < np.mean(with_rare) < mean + 2
    alone = sum(all(c >= 10 for c in hand) for hand in hands if max(hand) >= 10)
    assert alone < len(with_rare) / 2


@pytest.mark.parametrize(
    ("counts", "num_images", "max_slots"), [([5], 4, 3), ([2, 2], 5, 3), ([4, 4, 4], 4, 2)]
)
def test_an_impossible_deal_is_refused(counts, num_images, max_slots):
    with pytest.raises(ValueError, match="cannot deal image_counts"):
        deal_slots(counts, num_images=num_images, max_slots=max_slots, rng=np.random.default_rng(0))
