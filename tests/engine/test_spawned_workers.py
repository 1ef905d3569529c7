"""Loader workers that are spawned: what they get must be picklable, and they know of no ranks."""

from __future__ import annotations

import multiprocessing
import pickle

import pytest
import torch
from detectron2.utils import comm

from lt_det.data.image_transforms import auto_augment
from lt_det.engine.train_loader import PositionedDataset
from tests.engine.digits import digits_config
from tests.engine.test_trainer import final_state, train
from tests.engine.tiny import tiny_config


@pytest.fixture
def spawn():
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


def draw(_record):
    return torch.rand(3)


def test_a_worker_has_the_rank_of_its_trainer(monkeypatch):
    monkeypatch.setattr(comm, "get_rank", lambda: 1)
    dataset = PositionedDataset([0], mapper=draw, seed=5)
    expected = dataset[3]
    pickled = pickle.dumps(dataset)
    monkeypatch.setattr(comm, "get_rank", lambda: 0)
    assert torch.equal(pickle.loads(pickled)[3], expected)
    assert not torch.equal(PositionedDataset([0], mapper=draw, seed=5)[3], expected)


def test_policies_of_timm_can_be_pickled():
    pytest.importorskip("timm")
    policy = auto_augment("rand-m9-mstd0.5", size=32)
    copy = pickle.loads(pickle.dumps(policy))
    image = (torch.rand(3, 32, 32) * 255).byte()
    results = []
    import random

    import numpy as np

    for each in (policy, copy):
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        results.append(each(image))
    assert torch.equal(*results)
    assert not torch.equal(results[0], image)


@pytest.mark.usefixtures("spawn")
def test_a_detector_trains_the_same(tmp_path):
    states = []
    for workers in (0, 1):
        cfg = tiny_config(tmp_path, DATALOADER__NUM_WORKERS=workers)
        cfg.SOLVER.MAX_ITER, cfg.MODEL.MASK_ON = 1, False
        cfg.TEST.EVAL_PERIOD, cfg.DATASETS.TEST = 0, ()
        cfg.OUTPUT_DIR = str(tmp_path / str(workers))
        torch.manual_seed(0)
        train(cfg)
        states.append(final_state(cfg)["model"])
    assert states[0].keys() == states[1].keys()
    batches = [s["roi_heads.box_predictor.cls_score.weight"] for s in states]
    assert all(torch.isfinite(b).all() for b in batches)


@pytest.mark.usefixtures("spawn")
def test_an_image_classifier_trains(tmp_path):
    pytest.importorskip("timm")
    key = "LT_DET.CLASSIFICATION.TRANSFORM.AUTO_AUGMENT"
    cfg = digits_config(tmp_path, "DATALOADER.NUM_WORKERS", 1, key, "rand-m9-mstd0.5")
    cfg.SOLVER.MAX_ITER = 1
    train(cfg)
