"""What a meta step costs beside its mathematics."""

from __future__ import annotations

from detectron2.utils.events import EventStorage

from lt_det.engine.trainer import LongTailTrainer
from lt_det.losses.criterion import Criterion
from tests.engine.tiny import tiny_config


def test_steps_build_no_criterion(tmp_path, monkeypatch):
    keys = {"LT_DET__META__ENABLED": True, "LT_DET__DECOUPLED": True}
    cfg = tiny_config(tmp_path, **keys, LT_DET__LOSS="balanced_sigmoid", DATASETS__TEST=())
    trainer = LongTailTrainer(cfg)
    trainer._build_streams()
    batch = next(iter(trainer._stream))
    monkeypatch.setattr(Criterion, "__init__", None)
    with EventStorage():
        losses = trainer.model(batch)
    assert "loss_cls" in losses
    assert trainer.meta.reweighter.psi.abs().max() > 0
    # The plain loss is no part of the model.
    assert not [k for k in trainer.model.state_dict() if "plain" in k]
