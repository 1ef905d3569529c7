"""Image classification as a LazyConfig, in the loop of Detectron2's lazyconfig_train_net.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import SimpleTrainer
from detectron2.engine.defaults import create_ddp_model
from detectron2.engine.hooks import LRScheduler
from detectron2.evaluation import inference_on_dataset

pytest.importorskip("sklearn")

CONFIG = (
    Path(__file__).resolve().parents[2] / "configs/classification/digits_lt_balanced_softmax.py"
)


def train_and_evaluate(cfg) -> dict:
    torch.manual_seed(0)
    model = instantiate(cfg.model).train()
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    trainer = SimpleTrainer(create_ddp_model(model), instantiate(cfg.dataloader.train), optimizer)
    trainer.register_hooks([LRScheduler(scheduler=instantiate(cfg.lr_multiplier))])
    trainer.train(0, cfg.train.max_iter)
    return inference_on_dataset(
        model.eval(), instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator)
    )["classification"]


def test_the_config_trains_and_evaluates(tmp_path):
    cfg = LazyConfig.load(str(CONFIG))
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))  # as default_setup does
    balanced = train_and_evaluate(cfg)
    assert balanced["top1"] > 60
    # Another loss by an override of the command line.
    plain = train_and_evaluate(
        LazyConfig.apply_overrides(
            LazyConfig.load(str(CONFIG)), ["model.criterion.name=softmax_ce"]
        )
    )
    assert balanced["medium"] > plain["medium"]
