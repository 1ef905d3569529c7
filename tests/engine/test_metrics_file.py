"""metrics.json of a resumed run is that of an uninterrupted one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.utils.events import EventStorage, JSONWriter

from lt_det.engine.metrics_file import OF_THE_MACHINE, MetricsFile
from tests.engine.digits import digits_config
from tests.engine.test_trainer import train


def lines_of(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in OF_THE_MACHINE} for line in lines]


def test_a_resumed_training_writes_the_lines_of_an_uninterrupted_one(tmp_path):
    options = ("SOLVER.MAX_ITER", 12, "SOLVER.CHECKPOINT_PERIOD", 7, "DATASETS.TEST", ())
    whole = digits_config(tmp_path / "whole", *options)
    train(whole)
    resumed = digits_config(tmp_path / "resumed", *options)
    # As a run that was killed in its tenth iteration leaves it, but for a line of iteration 8.
    for name in ("model_0000006.pth", "metrics.json"):
        shutil.copy(os.path.join(whole.OUTPUT_DIR, name), resumed.OUTPUT_DIR)
    Path(resumed.OUTPUT_DIR, "last_checkpoint").write_text("model_0000006.pth")
    Path(resumed.OUTPUT_DIR, "metrics.json").write_text('{"iteration": 8, "old": 1}\n{"half')
    assert train(resumed, resume=True).start_iter == 7
    expected = lines_of(Path(whole.OUTPUT_DIR))
    assert len(expected) == 1
    assert expected[0]["iteration"] == 11
    assert {"total_loss", "lr"} < set(expected[0])
    assert lines_of(Path(resumed.OUTPUT_DIR)) == expected
    final = [torch.load(Path(cfg.OUTPUT_DIR, "model_final.pth")) for cfg in (whole, resumed)]
    first, second = (one["trainer"]["hooks"]["MetricsFile"] for one in final)
    assert first == second
    assert "total_loss" in first["values"]
    assert not {"time", "data_time"} & set(first["values"])


def put(storage: EventStorage, iteration: int) -> None:
    """Scalars of one iteration: each time, some times, an evaluation's."""
    storage.iter = iteration
    storage.put_scalar("total_loss", (iteration * 7919) % 13)
    storage.put_scalar("lr", 1 / (iteration + 1), smoothing_hint=False)
    if iteration % 4 == 1:
        storage.put_scalar("loss_meta", (iteration * 31) % 17)
    if iteration % 30 == 29:
        storage.put_scalar("bbox/AP", iteration, smoothing_hint=False)


class Run:
    """A loop that writes every 20 iterations and checkpoints before it does, as Detectron2's."""

    def __init__(self, folder: Path, start: int = 0, state: dict | None = None) -> None:
        self.start = start
        self.file = MetricsFile(str(folder))
        self.storage = EventStorage(start)
        self.file.trainer = SimpleNamespace(start_iter=start, storage=self.storage)
        if state is not None:
            self.file.load_state_dict(json.loads(json.dumps(state)))
        self.file.before_train()

    def to(self, end: int, *, write: bool = True) -> dict:
        """Run to the end of an iteration; return the state of its checkpoint."""
        state: dict = {}
        with self.storage:
            for iteration in range(self.start, end + 1):
                put(self.storage, iteration)
                state = self.file.state_dict()
                if iteration % 20 == 19 and (write or iteration < end):
                    self.file.write()
        self.start = end + 1
        return state


def test_the_lines_are_those_of_detectron2_in_order(tmp_path):
    Run(tmp_path).to(99)
    writer = JSONWriter(str(tmp_path / "stock.json"))
    with EventStorage() as storage:
        for iteration in range(100):
            put(storage, iteration)
            if iteration % 20 == 19:
                writer.write()
    writer.close()
    stock = [json.loads(line) for line in (tmp_path / "stock.json").read_text().splitlines()]
    assert len(stock) > 5
    assert lines_of(tmp_path) == sorted(stock, key=lambda line: line["iteration"])


@pytest.mark.parametrize("stop", [0, 18, 19, 20, 29, 35, 39, 58, 59, 61, 89])
@pytest.mark.parametrize("lost", [0, 1, 45])
def test_killed_anywhere_after_a_checkpoint(tmp_path, stop, lost):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    Run(tmp_path / "whole").to(119)
    run = Run(tmp_path / "killed")
    state = run.to(stop)
    run.to(stop + lost)
    Run(tmp_path / "killed", stop + 1, state).to(119)
    expected, found = (lines_of(tmp_path / name) for name in ("whole", "killed"))
    assert found == expected


def test_killed_between_a_checkpoint_and_its_line(tmp_path):
    (tmp_path / "whole").mkdir()
    Run(tmp_path / "whole").to(59)
    state = Run(tmp_path).to(39, write=False)
    Run(tmp_path, 40, state).to(59)
    # Each iteration that has a new value later is in the later line.
    found = {line["iteration"]: line for line in lines_of(tmp_path)}
    expected = {line["iteration"]: line for line in lines_of(tmp_path / "whole")}
    assert found[59] == expected[59]
    assert found[19] == expected[19]


def test_the_state_is_small_whatever_was_logged(tmp_path):
    run = Run(tmp_path)
    state = run.to(300)
    assert len(state["values"]["total_loss"]) == len(state["values"]["loss_meta"]) == 20
    assert state["values"]["lr"] == [(1 / 301, 300)]
    for _ in range(5000):
        run.storage.put_scalar("total_loss", 1.0)
    assert len(run.file.state_dict()["values"]["total_loss"]) == 200


def test_a_new_training_leaves_the_lines_of_an_old_one(tmp_path):
    (tmp_path / "metrics.json").write_text('{"iteration": 999}\n')
    Run(tmp_path).to(19)
    assert [line["iteration"] for line in lines_of(tmp_path)] == [999, 17, 19]


def test_killed_before_the_first_checkpoint(tmp_path):
    Run(tmp_path).to(59)
    with (tmp_path / "metrics.json").open("a") as file:
        file.write('{"iterat')
    run = Run(tmp_path)
    run.file.resumes = True
    run.to(39)
    (tmp_path / "whole").mkdir()
    Run(tmp_path / "whole").to(39)
    assert lines_of(tmp_path) == lines_of(tmp_path / "whole")


def test_a_new_training_drops_half_a_line(tmp_path):
    (tmp_path / "metrics.json").write_text('{"iteration": 999}\n{"iterat')
    Run(tmp_path).to(19)
    assert [line["iteration"] for line in lines_of(tmp_path)] == [999, 17, 19]


def test_the_file_learns_that_a_run_without_a_checkpoint_is_resumed(tmp_path):
    options = ("SOLVER.MAX_ITER", 1, "DATASETS.TEST", ())
    cfg = digits_config(tmp_path, *options)
    Path(cfg.OUTPUT_DIR, "metrics.json").write_text('{"iteration": 39, "old": 1}\n')
    train(cfg, resume=True)
    assert [line["iteration"] for line in lines_of(Path(cfg.OUTPUT_DIR))] == [0]


def test_an_address_keeps_detectron2_s_writer(tmp_path):
    writer = JSONWriter(str(tmp_path / "metrics.json"))
    assert MetricsFile("s3://bucket/run").among([writer]) == [writer]
    file = MetricsFile(str(tmp_path))
    assert file.among([writer]) == [file]
    writer.close()
