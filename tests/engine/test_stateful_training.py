"""Whole trainings of losses with a running state or with draws: resumed ones are the same."""

from __future__ import annotations

import pytest
import torch

from lt_det.engine.trainer import LongTailTrainer
from tests.engine.digits import digits_config
from tests.engine.test_image_classification import train
from tests.engine.tiny import tiny_config


@pytest.fixture(autouse=True)
def seeded(monkeypatch):
    """Build every model from one random state, as a run with SEED does."""
    init = LongTailTrainer.__init__

    def seeded_init(self, cfg):
        torch.manual_seed(0)
        init(self, cfg)

    monkeypatch.setattr(LongTailTrainer, "__init__", seeded_init)


def trained_in_parts(cfg) -> LongTailTrainer:
    first = LongTailTrainer(cfg)
    first.resume_or_load(resume=False)
    first.max_iter = 3
    first.train()
    torch.rand(100)  # whatever happens between: no draw of a loss depends on it
    second = LongTailTrainer(cfg)
    second.resume_or_load(resume=True)
    assert second.start_iter == 3
    second.train()
    return second


@pytest.mark.parametrize("loss", ["eqlv2", "seesaw", "efl", "acsl"])
def test_a_resumed_run_repeats_an_uninterrupted_one(tmp_path, loss):
    options = ("LT_DET.LOSS", loss, "SOLVER.MAX_ITER", 6, "SOLVER.CHECKPOINT_PERIOD", 1)
    whole = train(digits_config(tmp_path / "whole", *options))
    parts = trained_in_parts(digits_config(tmp_path / "parts", *options))
    expected = whole._detector.state_dict()
    assert any(".state." in key for key in expected) == (loss != "acsl")
    for name, value in parts._detector.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("loss", ["eqlv2", "seesaw"])
def test_a_detector_does_so_too(tmp_path, loss):
    keys = {"LT_DET__LOSS": loss, "SOLVER__MAX_ITER": 5, "SOLVER__CHECKPOINT_PERIOD": 1}
    keys |= {"DATASETS__TEST": (), "SEED": 1}
    whole = LongTailTrainer(tiny_config(tmp_path / "whole", **keys))
    whole.resume_or_load(resume=False)
    whole.train()
    parts = trained_in_parts(tiny_config(tmp_path / "parts", **keys))
    expected = whole._detector.state_dict()
    moved = [value for key, value in expected.items() if ".criterion.state." in key]
    assert all(value.sum() > 0 for value in moved)
    assert moved
    for name, value in parts._detector.state_dict().items():
        assert torch.equal(value, expected[name]), name
