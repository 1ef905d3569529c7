"""Numbers of training images of the demo classes: the tail of LVIS v1 in small.

The image counts follow the quantile function of the LVIS v1 training split (1,203 categories, 1 to
1,977 images). Counts of rare and common classes are kept as they are, so the LVIS thresholds 10
and 100 mean the same here; counts above 100 are squeezed so that the set stays small.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Image counts of LVIS v1 train at the quantiles 0, 1/40, ..., 1: facts about the data set, which is
# itself not shipped. Between them the counts are interpolated linearly.
LVIS_V1_IMAGE_COUNT_QUANTILES = (
    *(1, 1, 1, 2, 3, 3, 4, 5, 6, 7, 9, 10, 12, 14, 16, 18, 22, 26, 29, 33),
    *(37, 44, 49, 56, 66, 76, 91, 106, 130, 162, 221, 270, 358, 528, 725, 1010),
    *(1401, 1687, 1877, 1915, 1977),
)

# Above this many images a class is "frequent" in LVIS; the squeeze must not move it below.
_COMMON_MAX = 100


def lvis_tail_image_counts(num_classes: int, *, max_image_count: int) -> list[int]:
    """Return image counts with the shape of the LVIS v1 tail, in rising order.

    Args:
        num_classes: number of counts, K.
        max_image_count: the counts above 100 are mapped log-linearly from (100, 1977] to
            (100, max_image_count].

    Raises:
        ValueError: if ``num_classes`` is below 1 or ``max_image_count`` not above 100.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    if max_image_count <= _COMMON_MAX:
        raise ValueError(
            f"max_image_count must be above {_COMMON_MAX}, or no class would be frequent; "
            f"got {max_image_count}"
        )
    quantiles = np.asarray(LVIS_V1_IMAGE_COUNT_QUANTILES, dtype=np.float64)
    levels = np.linspace(0.0, 1.0, len(quantiles))
    # The middle of each of K equal slices of the distribution.
    counts = np.interp((np.arange(num_classes) + 0.5) / num_classes, levels, quantiles)
    frequent = counts > _COMMON_MAX
    exponent = np.log(counts[frequent] / _COMMON_MAX) / np.log(quantiles[-1] / _COMMON_MAX)
    counts[frequent] = _COMMON_MAX * (max_image_count / _COMMON_MAX) ** exponent
    # Up for the frequent ones: 100.2 images must not become 100, which is "common".
    counts[frequent] = np.ceil(counts[frequent])
    return [int(count) for count in np.maximum(np.rint(counts), 1)]


def deal_slots(
    image_counts: Sequence[int],
    *,
    num_images: int,
    max_slots: int,
    rng: np.random.Generator,
) -> list[list[int]]:
    """Return the classes of each image so that every class is in exactly its number of images.

    Args:
        image_counts: ``(K,)``, in how many images each class must occur.
        num_images: N. Every image gets at least one class.
        max_slots: most classes in one image.
        rng: source of randomness.

    Returns:
        N lists of distinct class ids in ``[0, K)``.

    Raises:
        ValueError: if the counts cannot be met with so many images and slots.
    """
    total = int(sum(image_counts))
    if max(image_counts) > num_images or not num_images <= total <= num_images * max_slots:
        raise ValueError(
            f"cannot deal image_counts (sum {total}, max {max(image_counts)}) to num_images="
            f"{num_images} with 1 to max_slots={max_slots} classes each"
        )
    random = _random_capacities(total, num_images=num_images, max_slots=max_slots, rng=rng)
    hands = _deal_by_room(image_counts, capacities=random, rng=rng)
    if hands is None:
        # Few images can draw capacities that fit no deal. Even ones always do.
        even = np.full(num_images, total // num_images) + (
            np.arange(num_images) < total % num_images
        )
        hands = _deal_by_room(image_counts, capacities=even, rng=rng)
    if hands is None:
        raise RuntimeError(f"no deal of {list(image_counts)} to {num_images} images was found")
    _mix(hands, rng=rng)
    return hands


def _deal_by_room(
    image_counts: Sequence[int], *, capacities: np.ndarray, rng: np.random.Generator
) -> list[list[int]] | None:
    """Return a deal that fills all capacities, None if there is none.

    Largest class first, always into the images with most room: this succeeds whenever any deal
    does (Gale and Ryser), which dealing at random does not.
    """
    hands: list[list[int]] = [[] for _ in capacities]
    room = capacities.astype(np.float64)
    for class_id in sorted(range(len(image_counts)), key=lambda c: (-image_counts[c], c)):
        # Noise below 1 breaks ties only.
        order = np.argsort(-(room + rng.random(len(room)) * 0.5), kind="stable")
        chosen = order[: image_counts[class_id]]
        if len(chosen) and room[chosen].min() < 1:
            return None
        room[chosen] -= 1
        for image in chosen:
            hands[image].append(class_id)
    return hands


def _random_capacities(
    total: int, *, num_images: int, max_slots: int, rng: np.random.Generator
) -> np.ndarray:
    """Return ``(N,)`` int64 numbers of slots in [1, max_slots] that add up to ``total``."""
    capacities = 1 + rng.multinomial(total - num_images, np.full(num_images, 1 / num_images))
    while (excess := int(np.maximum(capacities - max_slots, 0).sum())) > 0:
        capacities = np.minimum(capacities, max_slots)
        open_images = np.flatnonzero(capacities < max_slots)
        np.add.at(capacities, rng.choice(open_images, size=excess), 1)
    return capacities


def _mix(hands: list[list[int]], *, rng: np.random.Generator) -> None:
    """Swap classes between random pairs of images, in place; all counts stay as they are.

    Dealing by room puts the frequent classes together in the fullest images; the swaps make the
    company of a class random again.
    """
    owners = [image for image, hand in enumerate(hands) for _ in hand]
    for image in rng.permutation(owners):
        other = owners[int(rng.integers(len(owners)))]
        mine = int(rng.integers(len(hands[image])))
        theirs = int(rng.integers(len(hands[other])))
        a, b = hands[image][mine], hands[other][theirs]
        if a != b and b not in hands[image] and a not in hands[other]:
            hands[image][mine], hands[other][theirs] = b, a
