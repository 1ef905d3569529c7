"""What a meta step costs beside its mathematics."""

from __future__ import annotations

import pytest
import torch
from detectron2.utils.events import EventStorage

from lt_det.engine.trainer import LongTailTrainer
from lt_det.losses.criterion import Criterion
from lt_det.losses.gradient_sums import GradientSums
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


@pytest.mark.parametrize("cached", [False, True])
def test_a_running_state_moves_once_a_step(tmp_path, monkeypatch, cached):
    """Not in the virtual step, not by meta batches, not twice where losses are weighted."""
    keys = {"LT_DET__META__ENABLED": True, "LT_DET__DECOUPLED": True, "DATASETS__TEST": ()}
    keys |= {"LT_DET__META__LOSS": "balanced", "LT_DET__LOSS": "eqlv2"}
    keys["LT_DET__REGION_CACHE__ENABLED"] = cached
    trainer = LongTailTrainer(tiny_config(tmp_path, **keys))
    trainer._build_streams()
    batch = next(iter(trainer._stream))
    moves, add = [], GradientSums.add
    monkeypatch.setattr(
        GradientSums, "add", lambda self, total: (moves.append(total), add(self, total))
    )
    with EventStorage():
        losses = trainer.model(batch)
    assert torch.isfinite(losses["loss_cls"])
    assert len(moves) == 1
    state = next(m for m in trainer.model.modules() if isinstance(m, GradientSums))
    assert torch.equal(state.positive, moves[0][0])
