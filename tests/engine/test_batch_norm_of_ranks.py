"""Two processes evaluate the model that they save, batch norm included."""

from __future__ import annotations

import argparse

import pytest
import torch
from detectron2.utils import comm

from lt_det.engine.trainer import LongTailTrainer
from tests.engine.digits import digits_config
from tests.engine.test_image_classification import results_of
from tests.processes import run_in_two_processes

OPTIONS = ("SOLVER.MAX_ITER", 9, "SOLVER.CHECKPOINT_PERIOD", 4, "TEST.EVAL_PERIOD", 3)
OPTIONS += ("LT_DET.EVAL.PICTURES", True)  # by one rank, while the other goes on


def train(args: argparse.Namespace) -> None:
    trainer = LongTailTrainer(digits_config(args.folder, *OPTIONS))
    trainer.resume_or_load(resume=False)
    state, norms = trainer._detector.state_dict(), {}

    def test(*words):
        norms[trainer.iter + 1] = running(state)
        return LongTailTrainer.test(*words)

    trainer.test = test
    trainer.train()
    torch.save(norms, args.folder / f"rank{comm.get_rank()}.pt")


def running(state: dict) -> torch.Tensor:
    return torch.cat([value.flatten() for name, value in state.items() if "running_" in name])


def test_two_processes_evaluate_what_they_save(tmp_path):
    cfg = digits_config(tmp_path)
    run_in_two_processes(train, tmp_path)
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    assert len(first) == 3
    assert {3, 6} < set(first)
    for iteration, norms in first.items():
        assert torch.equal(norms, second[iteration])
    assert not torch.equal(first[3], first[6])
    saved = torch.load(f"{cfg.OUTPUT_DIR}/model_final.pth")["model"]
    assert torch.equal(running(saved), list(first.values())[-1])
    found = results_of(cfg)
    again = digits_config(tmp_path / "again", "MODEL.WEIGHTS", f"{cfg.OUTPUT_DIR}/model_final.pth")
    alone = LongTailTrainer.evaluate_checkpoint(again)["classification"]
    for metric, value in found.items():
        assert alone[metric] == pytest.approx(value, rel=1e-6), metric
