"""Trainings of each stage with mixed precision: resume, evaluation, repetition."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from gpu_check.device import DEVICE, SMALL
from gpu_check.results import NotHereError, Results
from lt_det.engine.trainer import LongTailTrainer
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import as_retinanet

ITERATIONS, STOP = (4, 2) if SMALL else (12, 6)
#: Of a resumed to an uninterrupted training, relative to the largest weight of each tensor. Sums
#: of a GPU have no order: ROIAlign's gradient adds with atomics. On a CPU there is none.
RESUMED = 0.0 if SMALL else 2e-2
STAGE_2 = {
    "LT_DET__META__ENABLED": True,
    "LT_DET__META__LR": 0.1,
    "LT_DET__DECOUPLED": True,
    "LT_DET__LOSS": "balanced_sigmoid",
}


def run(results: Results, seconds: float) -> None:  # noqa: ARG001
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["LT_DET_CACHE"] = str(folder / "cache")
        first = settings(folder, "first", LT_DET__LOSS="sigmoid_ce")
        results.check("stage 1, mixed precision", partial(train, first))
        results.check("stage 1, gradient scaler", partial(scaler, first))
        results.check("stage 1, resume", partial(resume, first))
        results.check("stage 1, evaluation", partial(evaluate, first))
        weights = os.path.join(first.OUTPUT_DIR, "model_final.pth")
        for what, keys in second_stages():
            cfg = settings(folder, what, MODEL__WEIGHTS=weights, **{**STAGE_2, **keys})
            results.check(f"stage 2, {what}", partial(train, cfg))
            results.check(f"stage 2, {what}, resume", partial(resume, cfg))
        results.check("stage 2, cached: the same twice", partial(twice, folder, weights))
        dense = settings(folder, "dense")
        as_retinanet(dense, loss="halted_focal").MODEL.MASK_ON = False
        results.check("RetinaNet, mixed precision", partial(train, dense))


def second_stages() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "plain", {"LT_DET__META__ENABLED": False}
    yield "BALMS", {}
    yield "BALMS with a bank", {"LT_DET__META__REGIONS": "bank"}
    yield "cached", {"LT_DET__REGION_CACHE__ENABLED": True}


def settings(folder: Path, name: str, **keys: Any) -> CfgNode:
    """Return the config of a run of the tiny data set."""
    fixed = {
        "SOLVER__AMP__ENABLED": True,
        "MODEL__DEVICE": DEVICE,
        "SOLVER__MAX_ITER": ITERATIONS,
        "SOLVER__CHECKPOINT_PERIOD": STOP,
        "DATASETS__TEST": (),
        "OUTPUT_DIR": str(folder / name.replace(" ", "_")),
    }
    return tiny_config(folder, **{**fixed, **keys})


def train(cfg: CfgNode, *, resumed: bool = False) -> str:
    torch.manual_seed(0)
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=resumed)
    trainer.train()
    loss = float(trainer.storage.latest()["total_loss"][0])
    assert math.isfinite(loss), f"the loss is {loss}"
    return f"{ITERATIONS - trainer.start_iter} iterations, the last loss is {loss:.3f}"


def state_of(cfg: CfgNode) -> dict[str, Any]:
    return torch.load(
        os.path.join(cfg.OUTPUT_DIR, "model_final.pth"), weights_only=True, map_location="cpu"
    )


def scaler(cfg: CfgNode) -> str:
    """Look at the gradient scaler in the checkpoint; a CPU's bfloat16 has none."""
    loop = state_of(cfg)["trainer"]["_trainer"]
    if DEVICE == "cpu":
        raise NotHereError("bfloat16 on a CPU scales no loss")
    scale = float(loop["grad_scaler"]["scale"])
    assert 1 <= scale < math.inf, f"the scale is {scale}"
    return f"in the checkpoint; its scale is {scale:g}"


def resume(cfg: CfgNode) -> str:
    """Resume a copy from its first checkpoint; compare the last ones."""
    again = cfg.clone()
    again.OUTPUT_DIR = f"{cfg.OUTPUT_DIR}_resumed"
    Path(again.OUTPUT_DIR).mkdir()
    first = f"model_{STOP - 1:07d}.pth"
    shutil.copy(os.path.join(cfg.OUTPUT_DIR, first), again.OUTPUT_DIR)
    Path(again.OUTPUT_DIR, "last_checkpoint").write_text(first)
    train(again, resumed=True)
    one, two = state_of(cfg), state_of(again)
    scalers = [state["trainer"]["_trainer"].get("grad_scaler") for state in (one, two)]
    assert scalers[0] == scalers[1], f"the gradient scalers differ: {scalers}"
    return difference(one["model"], two["model"], allowed=RESUMED)


def difference(one: dict[str, Any], two: dict[str, Any], *, allowed: float) -> str:
    largest = max(
        float((value.double() - two[name].double()).abs().max() / value.double().abs().max())
        for name, value in one.items()
        if value.numel() and value.is_floating_point() and bool(value.abs().max() > 0)
    )
    said = f"largest difference {largest:.1e} of the largest weight, allowed {allowed:.0e}"
    assert largest <= allowed, said
    return said


def evaluate(cfg: CfgNode) -> str:
    if importlib.util.find_spec("hotcoco") is None:
        raise NotHereError("hotcoco is not installed")
    cfg = cfg.clone()
    cfg.DATASETS.TEST = cfg.DATASETS.TRAIN
    cfg.MODEL.WEIGHTS = os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
    results = LongTailTrainer.evaluate_checkpoint(cfg)
    average = float(results["bbox"]["AP"])
    assert 0 <= average <= 100, f"AP is {average}"
    return f"box AP {average:.2f}"


def twice(folder: Path, weights: str) -> str:
    """Train a classifier on cached regions twice: no operation of it adds in another order."""
    states = []
    keys = {**STAGE_2, "LT_DET__REGION_CACHE__ENABLED": True, "SOLVER__AMP__ENABLED": False}
    for name in ("once", "again"):
        cfg = settings(folder, name, MODEL__WEIGHTS=weights, **keys)
        train(cfg)
        states.append(state_of(cfg)["model"])
    differing = [name for name, value in states[0].items() if not value.equal(states[1][name])]
    assert not differing, f"{len(differing)} tensors differ, e.g. {differing[0]}"
    return f"{len(states[0])} tensors equal to the last bit"
