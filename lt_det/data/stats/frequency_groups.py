"""Rare, common and frequent classes by the number of training images that show them.

The groups and their limits are those of LVIS (Gupta et al., CVPR 2019, section 4): rare 1-10
images, common 11-100, frequent more than 100. A class with no image at all counts as rare, as
in LVIS's own files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

FrequencyGroup = Literal["r", "c", "f"]

GROUP_NAMES: dict[str, str] = {"r": "rare", "c": "common", "f": "frequent"}
"""Short names, in the order of every table, to words."""

#: The same groups as classification names them (Liu et al., "Large-Scale Long-Tailed Recognition",
#: CVPR 2019): many more than 100 training images, medium 20 to 100, few less than 20.
SHOT_NAMES: dict[str, str] = {"f": "many", "c": "medium", "r": "few"}
FEW_MAX, MEDIUM_MAX = 19, 100


def frequency_groups(
    image_counts: Sequence[int] | np.ndarray, *, rare_max: int = 10, common_max: int = 100
) -> tuple[FrequencyGroup, ...]:
    """Return one of ``"r"``, ``"c"``, ``"f"`` for each class.

    Args:
        image_counts: ``(K,)``, number of images that show the class, >= 0.
        rare_max: most images of a rare class.
        common_max: most images of a common class.

    Raises:
        ValueError: unless ``0 <= rare_max < common_max``.
    """
    if not 0 <= rare_max < common_max:
        raise ValueError(
            f"rare_max and common_max must be 0 <= rare_max < common_max, got {rare_max} and "
            f"{common_max}; LVIS has 10 and 100"
        )
    return tuple(
        "r" if count <= rare_max else "c" if count <= common_max else "f" for count in image_counts
    )


def group_members(groups: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the class ids of each group, ascending int64, for all of r, c and f.

    A group without classes has an empty array, so that tables keep their columns.

    Args:
        groups: ``(K,)``, as from :func:`frequency_groups`.

    Raises:
        ValueError: for a group that is not one of r, c, f.
    """
    unknown = sorted(set(groups) - set(GROUP_NAMES))
    if unknown:
        raise ValueError(f"groups must hold only {list(GROUP_NAMES)}, got {unknown}")
    names = np.asarray(groups, dtype="<U1")
    return {group: np.flatnonzero(names == group) for group in GROUP_NAMES}
