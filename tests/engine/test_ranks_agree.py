"""Two processes train one model: other images on each, the same weights and psi on both."""

from __future__ import annotations

import argparse
import os

import torch
from detectron2.utils import comm

from lt_det.engine.trainer import LongTailTrainer
from tests.engine.tiny import tiny_config
from tests.processes import run_in_two_processes

STAGE_1 = {"LT_DET__LOSS": "sigmoid_ce", "SOLVER__MAX_ITER": 2, "DATASETS__TEST": ()}
STAGE_2 = {
    "LT_DET__LOSS": "balanced_sigmoid",
    "LT_DET__DECOUPLED": True,
    "LT_DET__META__ENABLED": True,
    "LT_DET__META__LR": 0.1,
    "SOLVER__MAX_ITER": 3,
    "DATASETS__TEST": (),
}


def train(cfg) -> dict:
    """Train; return what this rank holds at the end, and the images it has seen."""
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    seen = []
    trainer._detector.register_forward_pre_hook(
        lambda _, inputs: seen.extend(os.path.basename(r["file_name"]) for r in inputs[0])
    )
    trainer.train()
    return {
        "model": trainer._detector.state_dict(),
        "psi": trainer.meta.reweighter.psi.detach().clone() if trainer.meta else None,
        "seen": seen,
    }


def both_stages(args: argparse.Namespace) -> None:
    first = tiny_config(args.folder / "first", **STAGE_1)
    found = [train(first)]
    comm.synchronize()
    weights = os.path.join(first.OUTPUT_DIR, "model_final.pth")
    for cached in (False, True):
        second = tiny_config(
            args.folder / f"second_{cached}",
            **STAGE_2,
            MODEL__WEIGHTS=weights,
            LT_DET__REGION_CACHE__ENABLED=cached,
        )
        found.append(train(second))
        comm.synchronize()
    torch.save(found, args.folder / f"rank{comm.get_rank()}.pt")


def test_ranks_see_other_images_and_keep_the_same_weights(tmp_path):
    for name in ("first", "second_False", "second_True"):
        tiny_config(tmp_path / name)  # the files, before two processes write them at once
    run_in_two_processes(both_stages, tmp_path, new=True)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    start = None
    for a, b in zip(*ranks):
        for name, value in a["model"].items():
            assert torch.equal(value, b["model"][name]), name
        moved = start is None or any(not v.equal(start[k]) for k, v in a["model"].items())
        assert moved
        start = a["model"]
    for a, b in zip(*ranks):
        if a["psi"] is not None:
            assert torch.equal(a["psi"], b["psi"])
            assert a["psi"].abs().max() > 0.05
    # One image a rank and iteration, no image on both at the same time.
    seen = [rank[0]["seen"] for rank in ranks]
    assert len(seen[0]) == len(seen[1]) == 2
    assert not set(seen[0]) & set(seen[1])
