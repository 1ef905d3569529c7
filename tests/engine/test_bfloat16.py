"""SOLVER.AMP on a CPU: bfloat16."""

from __future__ import annotations

import pytest
import torch

from lt_det.engine.startup.config_checks import check_config
from tests.engine.test_trainer import final_state, train
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import as_retinanet


@pytest.mark.parametrize("kind", ["standard", "retinanet"])
def test_trains(tmp_path, kind):
    cfg = tiny_config(tmp_path, LT_DET__LOSS="balanced_sigmoid", SOLVER__AMP__ENABLED=True)
    if kind == "retinanet":
        as_retinanet(cfg, loss="balanced_sigmoid")
    cfg.SOLVER.MAX_ITER = 2
    dtypes = []
    trainer = train_with_hook(cfg, dtypes)
    assert torch.bfloat16 in dtypes
    assert torch.float32 not in dtypes
    assert all(torch.isfinite(v).all() for v in final_state(cfg)["model"].values())
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())


def train_with_hook(cfg, dtypes):
    from lt_det.engine.trainer import LongTailTrainer

    trainer = LongTailTrainer(cfg)
    convolution = next(m for m in trainer.model.modules() if isinstance(m, torch.nn.Conv2d))

    def note(module, _inputs, output):
        if module.training and torch.is_grad_enabled():
            dtypes.append(output.dtype)

    convolution.register_forward_hook(note)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


def test_meta_step_in_bfloat16(tmp_path):
    cfg = tiny_config(tmp_path, LT_DET__LOSS="sigmoid_ce")
    cfg.SOLVER.MAX_ITER = 1
    train(cfg)
    keys = {"LT_DET__DECOUPLED": True, "LT_DET__META__ENABLED": True}
    cfg = tiny_config(tmp_path, LT_DET__LOSS="balanced_sigmoid", SOLVER__AMP__ENABLED=True, **keys)
    cfg.SOLVER.MAX_ITER, cfg.MODEL.WEIGHTS = 2, f"{cfg.OUTPUT_DIR}/model_final.pth"
    cfg.OUTPUT_DIR = str(tmp_path / "second")
    trainer = train(cfg)
    assert torch.isfinite(trainer.meta.psi).all()
    assert trainer.meta.psi.abs().sum() > 0


def test_other_devices_are_named(tmp_path):
    cfg = tiny_config(tmp_path, SOLVER__AMP__ENABLED=True, MODEL__DEVICE="mps")
    with pytest.raises(
        ValueError, match="SOLVER.AMP.ENABLED is for MODEL.DEVICE cuda .* got 'mps'"
    ):
        check_config(cfg)
