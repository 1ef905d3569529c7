"""A rank that hangs, stops, fails or dies ends the others, and they name it."""

from __future__ import annotations

import argparse
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch.distributed as dist
from detectron2.utils import comm

from lt_det.engine.startup.launch import _limit
from lt_det.engine.startup.setup import read_config
from lt_det.engine.trainer import LongTailTrainer
from lt_det.evaluation.rank_watch import RankWatch
from tests.engine.tiny import tiny_config
from tests.processes import free_port, start_python

REPOSITORY = Path(__file__).resolve().parents[2]
#: Seconds; machines are slow at times.
LIMIT = 6.0


class Trainer(LongTailTrainer):
    def run_step(self):
        if self.iter == 2 and comm.get_rank() == 1:
            give_up(os.environ["FAULT"])
        super().run_step()


def give_up(how: str) -> None:
    if how == "hangs":
        time.sleep(600)
    if how == "stops":
        os.kill(os.getpid(), signal.SIGSTOP)
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError("a fault of its own")


def training(args: argparse.Namespace) -> None:
    cfg = tiny_config(args.folder, DATASETS__TEST=())
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()


PROCESS = """
import argparse, pathlib, sys
from lt_det.engine.startup.launch import launch
from tests.engine import test_rank_watch
options = ["LT_DET.RANK_TIMEOUT_MINUTES", str(test_rank_watch.LIMIT / 60)]
folder = pathlib.Path(sys.argv[1])
launch(test_rank_watch.training, argparse.Namespace(config_file="", opts=options, folder=folder))
"""


def start(fault: str, folder: Path) -> list[BaseProcess]:
    port = str(free_port())
    started = []
    for rank in ("0", "1"):
        environment = {
            "FAULT": fault,
            **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank},
            **{"LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
        }
        output = folder / rank
        output.mkdir()
        started.append(start_python(PROCESS, folder, environment=environment, output=output))
    return started


def watches(store: dist.Store, limit: float) -> list[RankWatch]:
    """Return those of two ranks, in this process."""
    with ThreadPoolExecutor(2) as pool:
        return list(
            pool.map(
                lambda rank: RankWatch(
                    store, rank=rank, world_size=2, limit=timedelta(seconds=limit)
                ),
                (0, 1),
            )
        )


@pytest.mark.parametrize(
    ("heart_beats", "message"),
    [
        (True, r"rank 0 has waited 1 s in 'the shares of all' for rank 1, which hangs in 'share'"),
        (False, r"for rank 1, which was stopped or died in 'share': see the log of that rank"),
    ],
)
def test_a_wait_for_a_rank_without_progress_ends(heart_beats, message):
    first, second = watches(dist.HashStore(), 1.0)
    second.mark("share")
    if not heart_beats:
        second._ended.set()
    else:  # it would end this process
        second._late = lambda: None
    with pytest.raises(RuntimeError, match=message):
        first.wait_for_all("the shares of all")
    first.stop()
    second._ended.set()


def test_a_rank_that_makes_progress_is_waited_for():
    first, second = watches(dist.HashStore(), 1.0)

    def share() -> None:
        for _ in range(30):
            time.sleep(0.1)
            second.mark("share")
        second.wait_for_all("the shares of all")

    with ThreadPoolExecutor(1) as pool:
        shared = pool.submit(share)
        first.wait_for_all("the shares of all")
        shared.result()
    first.stop()
    second.stop()


def test_errors_of_communication_are_explained():
    first, second = watches(dist.HashStore(), 1.0)
    assert first.explain(ValueError("of every rank")) is None
    assert first.explain(RuntimeError("of its own")) is None  # the other one is there
    second.explain(ValueError("a fault"))
    assert first.explain(RuntimeError("Connection closed")) == "rank 1 failed: ValueError: a fault"
    first.stop()
    second.stop()
    first, second = watches(dist.HashStore(), 1.0)
    second._ended.set()
    second._thread.join()
    assert first.explain(RuntimeError("Connection closed")) == "rank 1 was stopped or died"
    first.stop()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("hangs", r"rank 1, which hangs in 'iteration 2: data': see the log of that rank"),
        # Which of its words gloo says is a matter of time.
        ("dies", r"rank 1 was stopped or died; rank 0 ends: .*(by peer|Broken pipe)"),
        pytest.param("stops", r"rank 1, which was stopped or died in", marks=pytest.mark.slow),
        pytest.param("fails", r"rank 1 failed: ValueError: a fault", marks=pytest.mark.slow),
    ],
)
def test_a_training_ends_and_names_the_other_rank(fault, message, tmp_path):
    first, second = start(fault, tmp_path)
    try:
        first.join(300)
    finally:
        for process in (first, second):
            process.kill()
            process.join()
    errors = (tmp_path / "0" / "stderr").read_text()
    assert first.exitcode == 1
    assert re.search(message, errors), errors[-3000:]


@pytest.mark.parametrize("minutes", ["0.0", "-1.0", "1e9"])
def test_the_limit_is_a_time(minutes):
    cfg = read_config("", ["LT_DET.RANK_TIMEOUT_MINUTES", minutes])
    with pytest.raises(ValueError, match=r"LT_DET.RANK_TIMEOUT_MINUTES must be above 0"):
        _limit(cfg)
