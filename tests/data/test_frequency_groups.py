"""The limits of the groups, to the image."""

from __future__ import annotations

import inspect

import pytest

from lt_det.data.inspection.data_sets import inspect_data_sets
from lt_det.data.stats.frequency_groups import FEW_MAX, MEDIUM_MAX, frequency_groups


@pytest.mark.parametrize(
    ("count", "lvis", "shots"),
    [
        (0, "r", "r"), (10, "r", "r"), (11, "c", "r"), (19, "c", "r"), (20, "c", "c"),
        (100, "c", "c"), (101, "f", "f"),
    ],
)  # fmt: skip
def test_limits_of_lvis_and_of_many_medium_few(count, lvis, shots):
    """Gupta et al.: rare to 10, common to 100. Liu et al.: few less than 20, many more than 100."""
    assert frequency_groups([count]) == (lvis,)
    assert frequency_groups([count], rare_max=FEW_MAX, common_max=MEDIUM_MAX) == (shots,)


def test_image_classifiers_are_evaluated_with_few_less_than_20():
    pytest.importorskip("detectron2")
    from lt_det.engine.startup.setup import load_config
    from lt_det.tasks import build_task

    cfg = load_config("", ["MODEL.META_ARCHITECTURE", "LongTailImageClassifier"])
    task = build_task(cfg)
    assert (task.rare_max, task.common_max) == (19, 100)


def test_the_limits_of_lvis_are_the_default_everywhere():
    found = [
        inspect.signature(function).parameters for function in (inspect_data_sets, frequency_groups)
    ]
    assert found[0]["limits"].default == (10, 100)
    assert (found[1]["rare_max"].default, found[1]["common_max"].default) == (10, 100)
