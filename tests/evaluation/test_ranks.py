"""Two gloo processes on CPU against one process."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from lt_det.evaluation import main_rank
from lt_det.evaluation.coco_evaluator import LongTailCOCOEvaluator
from lt_det.evaluation.lvis.evaluator import LongTailLVISEvaluator
from tests.evaluation.fake_detector import class_stats, feed, predictions, register
from tests.evaluation.lvis.sets import random_ground_truth
from tests.processes import spawn_within

NAME = "lt_det_test_ranks"


EVALUATORS = {"lvis": LongTailLVISEvaluator, "coco": LongTailCOCOEvaluator}


def ground_truth() -> dict:
    truth = random_ground_truth(np.random.default_rng(21))
    for annotation in truth["annotations"]:
        annotation["iscrowd"] = 0  # pycocotools needs it
    return truth


def make(kind: str, folder: Path) -> LongTailLVISEvaluator | LongTailCOCOEvaluator:
    truth = ground_truth()
    register(NAME, truth, folder)
    return EVALUATORS[kind](NAME, output_dir=str(folder / kind), class_stats=class_stats(truth))


def work(rank: int, folder: Path) -> None:
    """One rank: both evaluators, then faults: before what is gathered, and on the main rank."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    mine = folder / f"rank{rank}"
    mine.mkdir()
    pairs = predictions(ground_truth(), seed=21)
    outcomes = {}
    for case in ("lvis", "coco", "early", "fault"):
        if case == "fault":  # an image of rank 1 that no json knows
            pairs[-1][0]["image_id"] = 999999
        evaluator = make(case if case in EVALUATORS else "lvis", mine)
        feed(evaluator, pairs[:5] if rank == 0 else pairs[5:])
        if case == "early" and rank == 1:
            evaluator._predictions.append("no predictions")
        try:
            outcomes[case] = evaluator.evaluate()
        except Exception as error:
            outcomes[case] = error
    (mine / "outcomes.pkl").write_bytes(pickle.dumps(outcomes))
    # The group ends with the process: destroying gloo right after a collective can deadlock.
    dist.barrier()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Both ranks have run, once for all tests: starting the processes is what takes long."""
    folder = tmp_path_factory.mktemp("ranks")
    spawn_within(work, (folder,), nprocs=2, new=True)
    return folder


@pytest.fixture
def outcomes(folder) -> list[dict]:
    return [pickle.loads((folder / f"rank{r}" / "outcomes.pkl").read_bytes()) for r in (0, 1)]


@pytest.mark.parametrize("kind", sorted(EVALUATORS))
def test_both_ranks_return_what_one_process_returns(kind, outcomes, folder, tmp_path):
    alone = make(kind, tmp_path)
    feed(alone, predictions(ground_truth(), seed=21))
    expected = alone.evaluate()
    assert expected["segm"]["APr"] > 0
    for outcome in outcomes:
        np.testing.assert_equal(outcome[kind], expected)
    # Files come from the main rank alone.
    assert (folder / "rank0" / kind / "per_category_segm.json").exists()
    assert not list((folder / "rank1" / kind).glob("*"))


def test_an_error_of_the_main_rank_is_raised_on_both(outcomes):
    first, second = (outcome["fault"] for outcome in outcomes)
    assert isinstance(first, ValueError)
    assert "999999" in str(first)
    assert isinstance(second, RuntimeError)
    assert "rank 0: ValueError" in str(second)
    assert "999999" in str(second)


def test_an_error_before_what_is_gathered_is_raised_on_both(outcomes):
    first, second = (outcome["early"] for outcome in outcomes)
    assert isinstance(first, RuntimeError)
    assert re.match("evaluation failed on rank 1: AttributeError", str(first))
    assert isinstance(second, AttributeError)


def test_ranks_are_waited_for_by_the_watch_before_they_gather(monkeypatch):
    """A gather by itself waits for ever for a rank that hangs, and names none."""
    order = []
    monkeypatch.setattr(main_rank.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(main_rank.comm, "is_main_process", lambda: True)
    monkeypatch.setattr(main_rank, "wait_for_all", order.append)

    def all_gather(value):
        order.append("gather")
        return [value, value]

    monkeypatch.setattr(main_rank.comm, "all_gather", all_gather)
    found = main_rank.main_rank_result(lambda: 2, lambda x: x + 1, distributed=True)
    assert found == 3
    assert order == ["evaluation", "gather"] * 2
