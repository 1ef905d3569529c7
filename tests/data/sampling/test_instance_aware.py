"""IRFS, E-IRFS and class-aware sampling against golden numbers."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from detectron2.data.samplers import RepeatFactorTrainingSampler

from lt_det.data.records.stored_records import StoredRecords
from lt_det.data.sampling.class_aware import ClassAwareSampler
from lt_det.data.sampling.instance_aware import (
    class_instance_counts,
    eirfs_class_logs,
    eirfs_image_weights,
    irfs_class_factors,
)
from lt_det.data.sampling.samplers import (
    class_image_counts,
    classes_of_images,
    rarest_class_weights,
)
from lt_det.engine.startup.setup import load_config
from lt_det.tasks.train_samplers import build_train_sampler

IMAGES = [[0], [0, 1], [1, 1, 1], [2, 2], [2], [2, 1], [3], []]
RECORDS = [{"annotations": [{"category_id": c} for c in classes]} for classes in IMAGES]
CLASSES = classes_of_images(RECORDS)
COUNTS = class_image_counts(CLASSES, num_classes=4)
INSTANCES = class_instance_counts(RECORDS, num_classes=4)
KEYS = {"num_images": 8, "threshold": 0.3}
IRFS = [1.212309, 1.212309, 1, 1, 1, 1, 1.714464, 1]


def test_counts():
    assert INSTANCES.tolist() == [2, 5, 4, 1]
    crowd = {"annotations": [{"category_id": 1, "iscrowd": 1}, {"category_id": 1}]}
    assert class_instance_counts([crowd], num_classes=3).tolist() == [0, 1, 0]
    assert class_instance_counts([], num_classes=2).tolist() == [0, 0]
    stored = StoredRecords.packed(RECORDS)
    assert class_instance_counts(stored, num_classes=4).tolist() == [2, 5, 4, 1]


def test_golden_numbers():
    found = irfs_class_factors(COUNTS, INSTANCES, **KEYS)
    images = np.maximum(rarest_class_weights(CLASSES, found), 1)
    assert images.tolist() == pytest.approx(IRFS, abs=1e-6)
    for as_released, expected in (
        (True, [11.297920, 6.311111, 6.877314, 24.312182]),
        (False, [11.297920, 5.710753, 6.311111, 30.843577]),
    ):
        logs = eirfs_class_logs(COUNTS, INSTANCES, **KEYS, alpha=2.0, as_released=as_released)
        assert np.exp(logs).tolist() == pytest.approx(expected, abs=1e-6)
        weights = eirfs_image_weights(CLASSES, logs)
        by_image = [max((expected[c] for c in classes), default=1.0) for classes in IMAGES]
        assert weights.tolist() == pytest.approx([w / max(by_image) for w in by_image], rel=1e-6)


def test_repeat_factors_of_detectron2_stay_those_of_lvis():
    found = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(RECORDS, 0.3)
    expected = [1.095445, 1.095445, 1, 1, 1, 1, 1.549193, 1]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_the_sampler_of_the_config_repeats_by_irfs():
    options = ("LT_DET.SAMPLER.NAME", "irfs", "DATALOADER.REPEAT_THRESHOLD", 0.3)
    cfg = load_config("", options)
    draws = 200000
    found = itertools.islice(build_train_sampler(cfg, RECORDS, seed=0), draws)
    shares = np.bincount(list(found), minlength=8) / draws
    np.testing.assert_allclose(shares, np.array(IRFS) / sum(IRFS), atol=0.002)


@pytest.mark.parametrize("name", ["eirfs", "eirfs_release"])
def test_the_sampler_of_the_config_draws_by_eirfs(name):
    options = ("LT_DET.SAMPLER.NAME", name, "DATALOADER.REPEAT_THRESHOLD", 0.3)
    cfg = load_config("", (*options, "LT_DET.SAMPLER.ALPHA", 0.7))
    released = name == "eirfs_release"
    logs = eirfs_class_logs(COUNTS, INSTANCES, **KEYS, alpha=0.7, as_released=released)
    weights = eirfs_image_weights(CLASSES, logs)
    draws = 200000
    found = itertools.islice(build_train_sampler(cfg, RECORDS, seed=0), draws)
    shares = np.bincount(list(found), minlength=8) / draws
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.004)


def test_degenerate_cases():
    ones = irfs_class_factors(COUNTS, INSTANCES, num_images=8, threshold=0.0)
    assert ones.tolist() == [1, 1, 1, 1]
    for released in (True, False):
        logs = eirfs_class_logs(COUNTS, INSTANCES, **KEYS, alpha=0.0, as_released=released)
        assert eirfs_image_weights(CLASSES, logs).tolist() == [1] * 8
    # Neither a class without instances nor a huge weight is infinite.
    nothing = irfs_class_factors(np.array([1.0, 3]), np.array([0.0, 3]), num_images=9, threshold=1)
    assert np.isfinite(nothing).all()
    logs = eirfs_class_logs(
        COUNTS, INSTANCES, num_images=8, threshold=1e6, alpha=9.0, as_released=False
    )
    weights = eirfs_image_weights(CLASSES, logs)
    assert np.isfinite(weights).all()
    assert weights.max() == 1
    with pytest.raises(ValueError, match="alpha must be at least 0, got -1"):
        eirfs_class_logs(COUNTS, INSTANCES, **KEYS, alpha=-1.0, as_released=False)
    with pytest.raises(ValueError, match="threshold must be at least 0"):
        irfs_class_factors(COUNTS, INSTANCES, num_images=8, threshold=-1.0)
    cfg = load_config("", ("LT_DET.SAMPLER.NAME", "eirfs", "LT_DET.SAMPLER.ALPHA", -1.0))
    with pytest.raises(ValueError, match="LT_DET.SAMPLER.ALPHA must be at least 0"):
        build_train_sampler(cfg, RECORDS, seed=0)


class TestClassAware:
    def test_each_class_and_each_of_its_images_by_turns(self):
        draws = list(itertools.islice(ClassAwareSampler(CLASSES, seed=0), 4 * 12))
        of_rounds = [draws[i : i + 4] for i in range(0, len(draws), 4)]
        times = Counter(draws)
        # 12 rounds: class 3 has one image, class 0 two; the others come from one or two classes.
        assert times[6] == 12
        assert 7 not in times
        assert all(6 in one_round for one_round in of_rounds)
        assert times[0] == 6
        assert times[2] == times[3 - 1] == 4
        assert times[3] == times[4] == 4
        # In two cycles of class 0 or three of class 1 and 2 each image has its turn.
        assert times[1] == 6 + 4
        assert times[5] == 4 + 4

    def test_seed_and_ranks(self):
        whole = list(itertools.islice(ClassAwareSampler(CLASSES, seed=5), 60))
        assert whole == list(itertools.islice(ClassAwareSampler(CLASSES, seed=5), 60))
        assert whole != list(itertools.islice(ClassAwareSampler(CLASSES, seed=6), 60))
        parts = [
            list(itertools.islice(ClassAwareSampler(CLASSES, seed=5, rank=r, world_size=2), 30))
            for r in range(2)
        ]
        assert [i for pair in zip(*parts) for i in pair] == whole

    def test_nothing_to_draw_from(self):
        with pytest.raises(ValueError, match="2 images, none with a class"):
            ClassAwareSampler([[], []], seed=0)
        with pytest.raises(ValueError, match="rank in"):
            ClassAwareSampler(CLASSES, seed=0, rank=2, world_size=2)
