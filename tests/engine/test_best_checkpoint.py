"""The best checkpoint by any result, early stopping, and both in resumed runs."""

from __future__ import annotations

import json
import math

import pytest
import torch

from lt_det.engine import best_checkpoint
from lt_det.engine.best_checkpoint import best_of, end_of_run, is_stale
from lt_det.engine.trainer import LongTailTrainer
from tests.engine.tiny import tiny_config


class Scripted(LongTailTrainer):
    """Evaluations give the values of a script, by iterations done."""

    script: dict[int, float] = {}

    def _evaluate(self):
        done = min(self.iter + 1, self.max_iter)
        return {"bbox": {"APr": self.script[done], "AP": -self.script[done]}}


def config(tmp_path, **keys):
    return tiny_config(
        tmp_path,
        LT_DET__BEST_CHECKPOINT="bbox/APr",
        TEST__EVAL_PERIOD=1,
        SOLVER__MAX_ITER=6,
        **keys,
    )


def run(cfg, *, resume=False):
    trainer = Scripted(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def record(cfg):
    with open(f"{cfg.OUTPUT_DIR}/best_checkpoint.json") as file:
        return json.load(file)


def iterations_of(cfg, name):
    return torch.load(f"{cfg.OUTPUT_DIR}/{name}.pth")["iteration"] + 1


def test_the_best_is_kept_and_the_last_is_what_is_resumed(tmp_path):
    cfg = config(tmp_path)
    Scripted.script = {1: 1.0, 2: math.nan, 3: 5.0, 4: 2.0, 5: 3.0, 6: 4.0}
    run(cfg)
    assert iterations_of(cfg, "model_best") == record(cfg)["best"]["iterations"] == 3
    assert iterations_of(cfg, "model_final") == 6
    with open(f"{cfg.OUTPUT_DIR}/last_checkpoint") as file:
        assert file.read() == "model_final.pth"


def test_training_stops_and_a_resumed_run_does_not_go_on(tmp_path):
    cfg = config(tmp_path, LT_DET__EARLY_STOPPING=2)
    Scripted.script = {1: 1.0, 2: 3.0, 3: 3.0, 4: 2.0, 5: 9.0, 6: 9.0}
    run(cfg)
    assert iterations_of(cfg, "model_final") == 4
    # As good is no better for stopping, and the later of two equals is kept.
    assert iterations_of(cfg, "model_best") == 3
    trainer = Scripted(cfg)
    trainer.resume_or_load(resume=True)
    assert (trainer.start_iter, trainer.max_iter) == (4, 4)
    assert end_of_run(cfg, 3) == 6


def test_evaluations_after_the_checkpoint_are_forgotten(tmp_path):
    cfg = config(tmp_path)
    Scripted.script = {1: 1.0, 2: 2.0, 3: 9.0, 4: 1.0, 5: 3.0, 6: 4.0}
    run(cfg)
    (tmp_path / "out" / "last_checkpoint").write_text("model_0000001.pth")
    Scripted.script = {3: 1.0, 4: 1.0, 5: 3.0, 6: 2.5}
    run(cfg, resume=True)
    assert record(cfg)["best"] == {"iterations": 5, "value": 3.0}
    assert iterations_of(cfg, "model_best") == 5
    assert [one["iterations"] for one in record(cfg)["evaluations"]] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"LT_DET__BEST_CHECKPOINT": "bbox/APrr"}, r"'bbox/APrr' is no result.*bbox/APr"),
        ({"LT_DET__BEST_CHECKPOINT": "bbox/AP", "DATASETS__TEST": ()}, "DATASETS.TEST is empty"),
        ({"LT_DET__EARLY_STOPPING": 2}, "set LT_DET.BEST_CHECKPOINT"),
        ({"LT_DET__EARLY_STOPPING": 2, "LT_DET__BEST_CHECKPOINT": "bbox/AP"}, "TEST.EVAL_PERIOD"),
        ({"LT_DET__EARLY_STOPPING": -1}, "EARLY_STOPPING must be at least 0"),
    ],
)
def test_what_would_do_nothing_is_said_at_the_start(tmp_path, keys, message):
    with pytest.raises(ValueError, match=message):
        LongTailTrainer(tiny_config(tmp_path, **keys))


def test_the_lowest_calibration_error_is_the_best():
    values = [(1, 3.0), (2, 1.0), (3, math.nan), (4, 2.0)]
    assert best_of(values, "classification/ece_few") == (2, 1.0)
    assert best_of(values, "classification/few") == (1, 3.0)
    assert is_stale(values, "classification/ece", 2)
    assert not is_stale(values, "classification/ece", 3)
    assert best_checkpoint.read_values("gone.json", "bbox/AP", until=3) == []
