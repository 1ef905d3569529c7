"""A deferred loss switches at its iteration, across a resume and with the Meta Reweighter."""

from __future__ import annotations

import os

import pytest
import torch

from lt_det.engine.trainer import LongTailTrainer
from tests.engine.test_trainer import META, final_state, train
from tests.engine.tiny import tiny_config

DEFERRED = {
    "LT_DET__LOSS": "softmax_ce",
    "LT_DET__CLASS_WEIGHTS__NAME": "inverse_frequency",
    "LT_DET__DEFER__START_ITER": 2,
    "SOLVER__MAX_ITER": 4,
    "SOLVER__CHECKPOINT_PERIOD": 1,
    "DATASETS__TEST": (),
}


def model_at(cfg, iteration: int) -> dict:
    path = os.path.join(cfg.OUTPUT_DIR, f"model_{iteration:07d}.pth")
    return torch.load(path, weights_only=True)["model"]


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def train_from_seed(cfg, *, resume: bool = False) -> LongTailTrainer:
    torch.manual_seed(0)  # initial parameters
    return train(cfg, resume=resume)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Four iterations, of which the last two are deferred."""
    cfg = tiny_config(tmp_path_factory.mktemp("whole"), **DEFERRED)
    train_from_seed(cfg)
    return cfg


def test_switches_at_its_iteration(tmp_path, whole):
    never = tiny_config(tmp_path, **{**DEFERRED, "LT_DET__DEFER__START_ITER": 100})
    train_from_seed(never)
    assert same(model_at(whole, 1), model_at(never, 1))
    assert not same(model_at(whole, 2), model_at(never, 2))


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resume_before_or_after_the_switch_changes_nothing(tmp_path, whole, stop):
    train_from_seed(tiny_config(tmp_path, **{**DEFERRED, "SOLVER__MAX_ITER": stop}))
    halves = tiny_config(tmp_path, **DEFERRED)
    assert train(halves, resume=True).start_iter == stop
    assert same(final_state(whole)["model"], final_state(halves)["model"])


def test_meta_reweighter_takes_a_deferred_loss(tmp_path):
    first = tiny_config(tmp_path / "a", LT_DET__LOSS="sigmoid_ce", SOLVER__MAX_ITER=1)
    train(first)
    keys = {
        **META,
        "LT_DET__DEFER__START_ITER": 1,
        "LT_DET__DEFER__LOSS": "sigmoid_ce",
        "MODEL__WEIGHTS": os.path.join(first.OUTPUT_DIR, "model_final.pth"),
        "DATASETS__TEST": (),
        "SOLVER__MAX_ITER": 2,
        "SOLVER__CHECKPOINT_PERIOD": 1,
    }
    deferred = tiny_config(tmp_path / "deferred", **keys)
    trainer = train(deferred)
    assert isinstance(trainer, LongTailTrainer)
    assert trainer.meta.state_dict()["psi"].abs().max() > 0
    plain = tiny_config(
        tmp_path / "plain",
        **{
            **keys,
            "LT_DET__LOSS": "sigmoid_ce",
            "LT_DET__DEFER__START_ITER": 0,
            "LT_DET__DEFER__LOSS": "",
        },
    )
    train(plain)
    assert same(model_at(deferred, 0), model_at(plain, 0))
    assert not same(model_at(deferred, 1), model_at(plain, 1))
