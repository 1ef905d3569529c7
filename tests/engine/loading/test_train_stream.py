"""The training stream is a function of the seed and the position."""

from __future__ import annotations

import itertools
import os
import random

import numpy as np
import pytest
import torch
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.data.samplers import TrainingSampler

from lt_det.data.records.dataset_dicts import build_train_dicts
from lt_det.data.records.stored_records import StoredRecords
from lt_det.engine.loading.aspect_ratio_batches import AspectRatioBatches, wide_images
from lt_det.engine.loading.build import build_meta_stream, build_train_stream
from lt_det.engine.loading.streams import build_streams
from lt_det.engine.loading.train_stream import (
    PositionedDataset,
    PositionedSampler,
    TrainStream,
    seed_everything,
)
from lt_det.tasks.train_samplers import build_train_sampler, class_balanced_sampler
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import small_model

ITEMS = list(range(10))


def augment(item: int) -> tuple:
    """A mapper that shows every random state it may use."""
    return item, np.random.rand(), torch.rand(1).item()


def make_stream(
    *, seed: int | None = 3, num_workers: int = 0, is_wide: np.ndarray | None = None
) -> TrainStream:
    return TrainStream(
        ITEMS,
        sampler=TrainingSampler(len(ITEMS), seed=1),
        ims_per_batch=2,
        mapper=augment,
        seed=seed,
        num_workers=num_workers,
        is_wide=is_wide,
    )


def take(stream: TrainStream, count: int) -> list:
    return list(itertools.islice(iter(stream), count))


WIDE = np.array([True, False, False, True, False, False, False, True, False, False])


@pytest.mark.parametrize("is_wide", [None, WIDE], ids=["as drawn", "grouped"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_late_start_continues_the_stream(num_workers, is_wide):
    whole = take(make_stream(is_wide=is_wide), 9)
    for start in (4, 7):
        late = make_stream(num_workers=num_workers, is_wide=is_wide)
        late.start_at(start)
        assert take(late, 9 - start) == whole[start:]


def test_groups_are_those_of_detectron2():
    samples = [
        {"code": code, "width": 2 + WIDE[code % 10], "height": 2} for code in range(40)
    ]  # a square is no wide image
    expected = itertools.islice(iter(AspectRatioGroupedDataset(samples, 3)), 9)
    batches = AspectRatioBatches(range(40), is_wide=WIDE, batch_size=3)
    assert list(itertools.islice(iter(batches), 9)) == [[d["code"] for d in b] for b in expected]


def test_groups_go_by_the_records_of_a_list_and_of_the_cache(caplog):
    records = [
        {"width": 3, "height": 2, "annotations": []},
        {"width": 2, "height": 2, "annotations": []},
        {"width": 2, "height": 3, "annotations": []},
    ]
    stored = StoredRecords.packed(records)
    assert wide_images(records).tolist() == wide_images(stored).tolist() == [True, False, False]
    both = StoredRecords.joined([stored, stored]).take(np.array([3, 2, 0]))
    assert wide_images(both).tolist() == [True, False, True]
    assert wide_images([]).tolist() == []
    assert not caplog.records
    assert wide_images([{"width": 3}, *records]).tolist() == [False, True, False, False]
    (record,) = caplog.records
    assert "1 of 4 training records have no width and height" in record.message
    # Not decided by which of the two is missing.
    assert wide_images([{"height": 3}]).tolist() == [False]


def test_grouped_batches_of_a_config(tmp_path):
    cfg = tiny_config(tmp_path, DATALOADER__ASPECT_RATIO_GROUPING=True)
    dicts = [dict(record) for record in build_train_dicts(cfg)]
    wide = {0, 3, 5}
    for i, record in enumerate(dicts):
        record["width"], record["height"] = (96, 64) if i in wide else (64, 96)
    ids = {dicts[i]["image_id"] for i in wide}
    stream = build_train_stream(cfg, dicts, mapper=lambda record: record["image_id"])
    for batch in take(stream, 6):
        assert len({image_id in ids for image_id in batch}) == 1


def test_augmentation_depends_on_position_and_seed_only():
    torch.manual_seed(0)
    first = take(make_stream(), 3)
    torch.manual_seed(99)
    np.random.seed(99)
    assert take(make_stream(), 3) == first
    assert take(make_stream(seed=4), 3) != first
    # 12 samples of 10 items: some item came twice, augmented anew.
    samples = [s for batch in take(make_stream(), 6) for s in batch]
    assert len({s[1] for s in samples}) == len(samples)


@pytest.mark.parametrize("maps_batches", [False, True])
@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_loading_leaves_the_random_states_of_the_step_alone(num_workers, maps_batches):
    """A mapper in the training process must not seed what the model draws from next."""
    stream = TrainStream(
        ITEMS,
        sampler=TrainingSampler(len(ITEMS), seed=1),
        ims_per_batch=2,
        mapper=(lambda items: [augment(i) for i in items]) if maps_batches else augment,
        seed=3,
        maps_batches=maps_batches,
        num_workers=num_workers,
    )
    seed_everything(7)
    expected = random.random(), np.random.rand(), torch.rand(3).tolist()
    seed_everything(7)
    batches = iter(stream)  # draws a number of its own
    next(batches), next(batches)
    assert (random.random(), np.random.rand(), torch.rand(3).tolist()) == expected


def test_sampler_hands_out_every_index_with_its_place():
    sampler = PositionedSampler([4, 0, 4], length=5)
    assert [divmod(code, 5) for code in sampler] == [(0, 4), (1, 0), (2, 4)]
    sampler.start = 2
    assert [divmod(code, 5) for code in sampler] == [(2, 4)]


def test_class_balanced_draws_favour_images_of_rare_classes():
    # Class 1 is in one image of four: 1 / f is 4, that of class 0 is 1.
    sampler = class_balanced_sampler([[0], [0], [0, 1], [0], []], seed=0)
    drawn = np.bincount(list(itertools.islice(iter(sampler), 7000)), minlength=5) / 7000
    np.testing.assert_allclose(drawn, [1 / 7, 1 / 7, 4 / 7, 1 / 7, 0], atol=0.03)


@pytest.mark.parametrize(
    "name", ["TrainingSampler", "RepeatFactorTrainingSampler", "ClassBalancedSampler"]
)
def test_samplers_of_the_config(tmp_path, name):
    cfg = tiny_config(tmp_path, DATALOADER__SAMPLER_TRAIN=name)
    dicts = build_train_dicts(cfg)
    indices = list(itertools.islice(iter(build_train_sampler(cfg, dicts, seed=0)), 100))
    assert set(indices) <= set(range(len(dicts)))
    cfg.DATALOADER.SAMPLER_TRAIN = "MySampler"
    with pytest.raises(ValueError, match="DATALOADER.SAMPLER_TRAIN must be .* got 'MySampler'"):
        build_train_sampler(cfg, dicts, seed=0)


def test_repeat_factors_without_the_root(tmp_path):
    cfg = tiny_config(tmp_path, DATALOADER__SAMPLER_TRAIN="RepeatFactorTrainingSampler")
    if "REPEAT_SQRT" not in cfg.DATALOADER:
        pytest.skip("this Detectron2 has no such key")
    cfg.DATALOADER.REPEAT_THRESHOLD = 1.0
    dicts = build_train_dicts(cfg)
    factors = []
    for root in (True, False):
        cfg.DATALOADER.REPEAT_SQRT = root
        sampler = build_train_sampler(cfg, dicts, seed=0)
        factors.append(sampler._int_part + sampler._frac_part)
    assert factors[1].max() > 2  # the rarest class is in every 8th image
    torch.testing.assert_close(factors[0], factors[1].sqrt())


@pytest.mark.parametrize(
    ("start", "interval", "update"), [(0, 3, 0), (1, 3, 1), (3, 3, 1), (4, 3, 2)]
)
def test_meta_batches_of_a_resumed_run(tmp_path, start, interval, update):
    """psi moves in iterations 0, interval, ...: so many batches are used up before ``start``."""
    cfg = tiny_config(tmp_path, LT_DET__LOSS="sigmoid_ce", LT_DET__DECOUPLED=True)
    cfg.LT_DET.META.ENABLED, cfg.LT_DET.META.INTERVAL = True, interval
    cfg.LT_DET.META.REGIONS = "forward"
    detector = small_model(cfg)

    def images_of(meta):
        return [d["image_id"] for batch in take(meta._stream, 4) for d in batch]

    _, whole = build_streams(cfg, detector, build_train_stream(cfg), start_iter=0)
    _, resumed = build_streams(cfg, detector, build_train_stream(cfg), start_iter=start)
    expected = [d["image_id"] for b in take(whole._stream, 4 + update)[update:] for d in b]
    assert images_of(resumed) == expected


def test_meta_batches_are_not_the_training_batches(tmp_path):
    cfg = tiny_config(tmp_path, DATALOADER__SAMPLER_TRAIN="ClassBalancedSampler")
    stream = build_train_stream(cfg)
    meta = [
        d["image_id"] for b in take(build_meta_stream(cfg, stream, ims_per_batch=2), 8) for d in b
    ]
    train = [d["image_id"] for b in take(stream, 8) for d in b]
    assert meta != train


def test_an_image_that_is_a_named_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "image.jpg")
    dataset = PositionedDataset([{"file_name": str(tmp_path / "image.jpg")}], mapper=dict)
    with pytest.raises(ValueError, match="image.jpg is a named pipe: expected a regular file"):
        dataset[0]
