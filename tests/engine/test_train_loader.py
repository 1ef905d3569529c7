"""The training stream is a function of the seed and the position."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
import torch
from detectron2.data.samplers import TrainingSampler

from lt_det.engine.streams import build_streams
from lt_det.engine.train_dicts import load_train_dicts
from lt_det.engine.train_loader import (
    PositionedDataset,
    PositionedSampler,
    TrainStream,
    build_meta_stream,
    build_train_sampler,
    build_train_stream,
    class_balanced_sampler,
)
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import small_model

ITEMS = list(range(10))


def augment(item: int) -> tuple:
    """A mapper that shows every random state it may use."""
    return item, np.random.rand(), torch.rand(1).item()


def make_stream(*, seed: int | None = 3, num_workers: int = 0) -> TrainStream:
    return TrainStream(
        ITEMS,
        sampler=TrainingSampler(len(ITEMS), seed=1),
        ims_per_batch=2,
        mapper=augment,
        seed=seed,
        num_workers=num_workers,
    )


def take(stream: TrainStream, count: int) -> list:
    return list(itertools.islice(iter(stream), count))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_late_start_continues_the_stream(num_workers):
    whole = take(make_stream(), 9)
    late = make_stream(num_workers=num_workers)
    late.start_at(4)
    assert take(late, 5) == whole[4:]


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
    dicts = load_train_dicts(cfg)
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
    dicts = load_train_dicts(cfg)
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
