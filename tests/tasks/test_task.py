"""Statistics of other data sets than the training's must be of the same classes."""

from __future__ import annotations

import pytest

from lt_det.data.stats.class_stats import ClassStats
from lt_det.tasks.task import _check_same_classes

STATS = ClassStats.from_dict(
    {
        "name": "counted",
        "class_names": ["cat", "dog", "owl"],
        "image_counts": [3, 2, 1],
        "instance_counts": [3, 2, 1],
        "num_images": 4,
        "source": "annotations",
    }
)


def test_the_same_classes_pass():
    _check_same_classes(STATS, "trained", ["cat", "dog", "owl"])


@pytest.mark.parametrize(
    ("trained", "said"),
    [
        (["cat", "owl", "dog"], r"got 3 and 3; 2 differ, first \[\('owl', 'dog'\)"),
        (["cat", "dog"], "got 3 and 2; 0 differ"),
        (["cat", "dog", "owl", "elk"], "got 3 and 4; 0 differ"),
    ],
)
def test_other_classes_are_refused(trained, said):
    with pytest.raises(ValueError, match=f"'counted' and DATASETS.TRAIN 'trained' must .*{said}"):
        _check_same_classes(STATS, "trained", trained)
