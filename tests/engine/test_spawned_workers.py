"""Loader workers that are spawned: what they get must be picklable, and they know of no ranks."""

from __future__ import annotations

import multiprocessing
import pickle

import pytest
import torch
from detectron2.utils import comm

from lt_det.data.images.transforms import auto_augment
from lt_det.engine.loading.train_stream import PositionedDataset, seed_everything
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
    changed = False
    for position in range(5):
        results = []
        for each in (policy, copy):
            seed_everything(0, position)
            results.append(each(image))
        assert torch.equal(*results)
        changed = changed or not torch.equal(results[0], image)
    assert changed


@pytest.mark.usefixtures("spawn")
def test_a_detector_trains(tmp_path):
    cfg = tiny_config(tmp_path, DATALOADER__NUM_WORKERS=1)
    cfg.SOLVER.MAX_ITER, cfg.MODEL.MASK_ON, cfg.DATASETS.TEST = 1, False, ()
    train(cfg)
    assert all(torch.isfinite(v).all() for v in final_state(cfg)["model"].values())


@pytest.mark.usefixtures("spawn")
def test_an_image_classifier_trains(tmp_path):
    pytest.importorskip("timm")
    key = "LT_DET.CLASSIFICATION.TRANSFORM.AUTO_AUGMENT"
    cfg = digits_config(tmp_path, "DATALOADER.NUM_WORKERS", 1, key, "rand-m9-mstd0.5")
    cfg.SOLVER.MAX_ITER = 1  # and an evaluation
    train(cfg)
    assert all(torch.isfinite(v).all() for v in final_state(cfg)["model"].values())
