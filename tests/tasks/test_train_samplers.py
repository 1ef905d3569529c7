"""How often each class is drawn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lt_det.data.warn_once import warn_once
from lt_det.engine.startup.setup import load_config
from lt_det.tasks import train_samplers
from lt_det.tasks.train_samplers import SAMPLERS, build_train_sampler

COUNTS = np.array([400, 100, 4])
RECORDS = [
    {"image_id": i, "category_id": int(c)} for i, c in enumerate(np.repeat([0, 1, 2], COUNTS))
]


def class_shares(*opts, records=RECORDS, draws=60480, skip=0):
    cfg = load_config("", opts)
    sampler = build_train_sampler(cfg, records, seed=0)
    chosen = list(itertools.islice(sampler, skip, skip + draws))
    classes = [records[i]["category_id"] for i in chosen]
    return np.bincount(classes, minlength=3) / draws


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("instance", COUNTS),
        ("class_balanced", [1, 1, 1]),
        ("square_root", np.sqrt(COUNTS)),
        ("effective_number", COUNTS / (1 - 0.99**COUNTS)),
        # t 0.5: f is 400/504, 100/504 and 4/504.
        ("repeat_factor", COUNTS * np.maximum(1, np.sqrt(0.5 / (COUNTS / 504)))),
    ],
)
def test_classes_are_drawn_at_the_documented_rate(name, rates):
    found = class_shares(
        *("LT_DET.SAMPLER.NAME", name, "LT_DET.SAMPLER.BETA", 0.99),
        *("DATALOADER.REPEAT_THRESHOLD", 0.5),
    )
    np.testing.assert_allclose(found, np.array(rates) / np.sum(rates), atol=0.01)


def test_progressive_ends_balanced():
    options = (
        *("LT_DET.SAMPLER.NAME", "progressive"),
        *("SOLVER.MAX_ITER", 605, "SOLVER.IMS_PER_BATCH", 100),
    )
    begin = class_shares(*options, draws=1000)
    np.testing.assert_allclose(begin, COUNTS / COUNTS.sum(), atol=0.04)
    end = class_shares(*options, draws=1000, skip=59500)
    np.testing.assert_allclose(end, [1 / 3] * 3, atol=0.06)
    middle = class_shares(*options, draws=2000, skip=29250)
    np.testing.assert_allclose(middle, (COUNTS / COUNTS.sum() + 1 / 3) / 2, atol=0.05)


@pytest.mark.parametrize(
    ("ours", "detectron2"),
    [("instance", "TrainingSampler"), ("repeat_factor", "RepeatFactorTrainingSampler")],
)
def test_names_of_detectron2_mean_the_same(ours, detectron2):
    a, b = (
        list(itertools.islice(build_train_sampler(load_config("", opts), RECORDS, seed=3), 900))
        for opts in (("LT_DET.SAMPLER.NAME", ours), ("DATALOADER.SAMPLER_TRAIN", detectron2))
    )
    assert a == b


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_detection_records_are_drawn_as_their_rarest_class(name):
    records = [
        {"annotations": [{"category_id": c} for c in classes]}
        for classes in ([0], [0, 1], [0, 1, 2], [])
    ]
    cfg = load_config("", ("LT_DET.SAMPLER.NAME", name))
    chosen = set(itertools.islice(build_train_sampler(cfg, records, seed=0), 500))
    assert {0, 1, 2} <= chosen


def test_unknown_samplers():
    with pytest.raises(ValueError, match="LT_DET.SAMPLER.NAME must be '' or one of .*'sqrt'"):
        class_shares("LT_DET.SAMPLER.NAME", "sqrt")
    with pytest.raises(ValueError, match="DATALOADER.SAMPLER_TRAIN must be one of .*'Training'"):
        class_shares("DATALOADER.SAMPLER_TRAIN", "Training")


@pytest.mark.parametrize("name", ["irfs", "repeat_factor"])
def test_a_threshold_that_repeats_nothing_is_said_with_the_rarest_share(name, caplog):
    """That of a class with images: class 1 has none."""
    warn_once.cache_clear()
    records = [{"image_id": i, "category_id": c} for i, c in enumerate([0, 0, 0, 0, 2, 2])]
    options = ("LT_DET.SAMPLER.NAME", name, "DATALOADER.REPEAT_THRESHOLD")
    build_train_sampler(load_config("", (*options, 0.5)), records, seed=0)
    assert "repeats none" not in caplog.text
    build_train_sampler(load_config("", (*options, 0.01)), records, seed=0)
    assert "0.01 repeats none of the 6 images: their rarest class is in a share of 0.333" in (
        caplog.text
    )


class TestDeferred:
    OPTIONS = (
        *("LT_DET.DEFER.START_ITER", 200, "LT_DET.DEFER.SAMPLER", "class_balanced"),
        *("SOLVER.IMS_PER_BATCH", 100, "SOLVER.MAX_ITER", 400),
    )
    START = 200 * 100

    def test_takes_over_at_its_start_and_not_a_draw_earlier(self):
        plain = build_train_sampler(load_config(""), RECORDS, seed=0)
        deferred = build_train_sampler(load_config("", self.OPTIONS), RECORDS, seed=0)
        draws = self.START + 2000
        expected, found = (list(itertools.islice(s, draws)) for s in (plain, deferred))
        assert found[: self.START] == expected[: self.START]
        # An epoch of "instance" has each image once; the balanced draws repeat the rare at once.
        assert sum(i >= 500 for i in found[self.START : self.START + 30]) >= 4
        again = build_train_sampler(load_config("", self.OPTIONS), RECORDS, seed=0)
        assert list(itertools.islice(again, draws)) == found

    def test_rates_before_and_after(self):
        before = class_shares(*self.OPTIONS, draws=self.START)
        np.testing.assert_allclose(before, COUNTS / COUNTS.sum(), atol=0.01)
        after = class_shares(*self.OPTIONS, draws=self.START, skip=self.START)
        np.testing.assert_allclose(after, [1 / 3] * 3, atol=0.015)

    def test_the_sampler_before_is_any(self):
        before = class_shares(*self.OPTIONS, "LT_DET.SAMPLER.NAME", "square_root", draws=self.START)
        np.testing.assert_allclose(before, np.sqrt(COUNTS) / np.sqrt(COUNTS).sum(), atol=0.015)

    def test_progressive_goes_all_its_way_after_the_switch(self):
        options = (*self.OPTIONS, "LT_DET.DEFER.SAMPLER", "progressive")
        first = class_shares(*options, draws=1000, skip=self.START)
        np.testing.assert_allclose(first, COUNTS / COUNTS.sum(), atol=0.05)
        last = class_shares(*options, draws=1000, skip=2 * self.START - 1000)
        np.testing.assert_allclose(last, [1 / 3] * 3, atol=0.06)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("LT_DET.DEFER.SAMPLER", "sqrt"), "LT_DET.DEFER.SAMPLER must be '' or one of"),
            (("LT_DET.DEFER.START_ITER", 0), "LT_DET.DEFER.SAMPLER .* nothing is deferred: set"),
            (("LT_DET.SAMPLER.NAME", "class_balanced"), "SAMPLER_TRAIN already is: set another"),
        ],
    )
    def test_contradictions_are_named(self, options, message):
        with pytest.raises(ValueError, match=message):
            class_shares(*self.OPTIONS, *options)

    def test_a_start_after_the_end_is_warned_of(self, caplog):
        class_shares(*self.OPTIONS, "SOLVER.MAX_ITER", 200, draws=10)
        assert "DEFER begins in iteration 200, that is never: SOLVER.MAX_ITER is 200" in caplog.text
        caplog.clear()
        class_shares(*self.OPTIONS, "SOLVER.MAX_ITER", 201, draws=10)
        assert "never" not in caplog.text


def test_of_two_ranks_each_draws_its_half_before_the_deferral(monkeypatch):
    """The later sampler takes over in the same iteration as in one process."""
    monkeypatch.setattr(train_samplers.comm, "get_world_size", lambda: 2)
    cfg = load_config(
        "",
        [
            *("LT_DET.LOSS", "balanced_softmax", "LT_DET.DEFER.START_ITER", 200),
            *("SOLVER.IMS_PER_BATCH", 8, "LT_DET.DEFER.SAMPLER", "class_balanced"),
        ],
    )
    assert build_train_sampler(cfg, RECORDS, seed=0).num_before == 200 * 8 // 2
