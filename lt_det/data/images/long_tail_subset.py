"""Make a data set long-tailed: the exponential profile and the subset that has it.

Cui et al., "Class-Balanced Loss", CVPR 2019, as used by LDAM (arXiv:1906.07413), BALMS
(arXiv:2007.10740, section 4.1) and the Eureka paper: class i of C keeps
``int(n_max r^(-i / (C - 1)))`` images, in label order, r being the imbalance factor. The release of
BALMS draws another subset for each loader; here one seed gives one subset, for every stage and for
the meta set.
"""

from __future__ import annotations

import numpy as np


def exponential_counts(max_count: int, *, num_classes: int, imbalance_factor: float) -> list[int]:
    """Return the images that each class keeps, in label order.

    Truncation makes the last count a little smaller than ``max_count / imbalance_factor``.

    Args:
        max_count: images of class 0.
        num_classes: C.
        imbalance_factor: r >= 1, the first count over the last; 1 keeps ``max_count`` of all.

    Raises:
        ValueError: if an argument is below 1, or a class would keep no image.
    """
    for name, value in (
        ("max_count", max_count),
        ("num_classes", num_classes),
        ("imbalance_factor", imbalance_factor),
    ):
        if not value >= 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    last = max(num_classes - 1, 1)
    # Rounded first, since 5000 * 200 ** -1.0 may come out as 24.999...
    counts = [
        int(round(max_count * imbalance_factor ** (-i / last), 6)) for i in range(num_classes)
    ]
    if counts[-1] < 1:
        raise ValueError(
            f"imbalance_factor {imbalance_factor} leaves no image of the last class, since class "
            f"0 has {max_count}: it can be {max_count} at most"
        )
    return counts


def long_tailed_subset(
    labels: np.ndarray, *, num_classes: int, imbalance_factor: float, seed: int
) -> np.ndarray:
    """Return the indices of a seeded long-tailed subset, int64, ascending.

    ``n_max`` is the size of the largest class; a class that has fewer images than the profile asks
    for keeps them all. For one seed, the subset of a larger factor lies in that of a smaller one.

    Args:
        labels: ``(N,)`` class ids.
        num_classes: C.
        imbalance_factor: r >= 1.
        seed: >= 0.

    Raises:
        ValueError: as :func:`exponential_counts`.
    """
    sizes = np.bincount(labels, minlength=num_classes)
    counts = exponential_counts(
        int(sizes.max()), num_classes=num_classes, imbalance_factor=imbalance_factor
    )
    kept = []
    for class_id, count in enumerate(counts):
        # One stream a class: what is drawn from one does not depend on the counts of others.
        generator = np.random.default_rng((seed, class_id))
        kept.append(generator.permutation(np.flatnonzero(labels == class_id))[:count])
    return np.sort(np.concatenate(kept)).astype(np.int64)


def held_out_images(labels: np.ndarray, *, num_classes: int, share: float, seed: int) -> np.ndarray:
    """Return a mask ``(N,)`` of a seeded share of the images of each class, rounded.

    Of a class with several images at least one is held out, and at least one is not; an only
    image is not.

    Args:
        labels: ``(N,)`` class ids.
        num_classes: C.
        share: in [0, 1).
        seed: >= 0.

    Raises:
        ValueError: if ``share`` is out of range.
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f"share must be in [0, 1), got {share}")
    mask = np.zeros(len(labels), dtype=bool)
    for class_id in range(num_classes if share else 0):
        members = np.flatnonzero(labels == class_id)
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        # Another stream than the subset's.
        generator = np.random.default_rng((seed, class_id, 1))
        mask[generator.permutation(members)[: max(count, 0)]] = True
    return mask
