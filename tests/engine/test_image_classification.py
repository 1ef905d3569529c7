"""Whole trainings of image classifiers."""

from __future__ import annotations

import json

import pytest
import torch

from lt_det.engine.trainer import LongTailTrainer
from tests.engine.digits import digits_config


def train(cfg):
    torch.manual_seed(0)
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


def results_of(cfg):
    with open(f"{cfg.OUTPUT_DIR}/results.json", encoding="utf-8") as file:
        return json.load(file)["results"]["classification"]


def test_balanced_softmax_helps_the_few(tmp_path):
    plain = digits_config(tmp_path / "ce")
    balanced = digits_config(tmp_path / "bs", "LT_DET.LOSS", "balanced_softmax")
    train(plain)
    train(balanced)
    ce, bs = results_of(plain), results_of(balanced)
    assert ce["many"] > 95 > ce["top1"] > 50
    assert bs["few"] > ce["few"] + 15
    assert bs["top1"] > ce["top1"] + 5
    assert ce["natural"] > ce["top1"]


@pytest.mark.parametrize("stop", [3, 4])
def test_a_resumed_run_repeats_an_uninterrupted_one(tmp_path, stop):
    options = ("SOLVER.MAX_ITER", 6, "LT_DET.SAMPLER.NAME", "square_root")
    whole = train(digits_config(tmp_path / "whole", *options))
    cfg = digits_config(tmp_path / "parts", *options, "SOLVER.CHECKPOINT_PERIOD", 1)
    torch.manual_seed(0)
    first = LongTailTrainer(cfg)
    first.resume_or_load(resume=False)
    first.max_iter = stop
    first.train()
    second = LongTailTrainer(cfg)
    second.resume_or_load(resume=True)
    assert second.start_iter == stop
    second.train()
    for (name, a), b in zip(
        whole._detector.state_dict().items(), second._detector.state_dict().values()
    ):
        assert torch.equal(a, b), name
