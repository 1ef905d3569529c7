"""The normaliser of RetinaNet across --resume, with the real trainer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lt_det.engine.trainer import LongTailTrainer
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import as_retinanet


def train(folder: Path, out: str, *, max_iter: int, resume: bool = False, **keys: object):
    cfg = as_retinanet(tiny_config(folder, SOLVER__CHECKPOINT_PERIOD=3, **keys))
    cfg.OUTPUT_DIR = str(folder / out)
    cfg.SOLVER.MAX_ITER = max_iter
    cfg.TEST.EVAL_PERIOD = 0
    cfg.DATASETS.TEST = ()
    Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
    torch.manual_seed(0)
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


@pytest.mark.parametrize("normalizer", ["global", "stock"])
def test_normalizer_survives_a_resume_unless_stock(normalizer, tmp_path):
    keys = {"LT_DET__RETINANET__NORMALIZER": normalizer}
    whole = train(tmp_path, "whole", max_iter=6, **keys)
    train(tmp_path, "halves", max_iter=3, **keys)
    halves = train(tmp_path, "halves", max_iter=6, resume=True, **keys)
    assert halves.start_iter == 3
    a, b = whole.model, halves.model
    same = all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))
    if normalizer == "global":
        assert float(a.loss_normalizer) == float(b.loss_normalizer)
        saved = torch.load(tmp_path / "halves" / "model_0000002.pth")["model"]
        assert 0 < float(saved["loss_normalizer"]) != float(a.loss_normalizer)
        assert same
    else:
        # Detectron2's starts at 100 again, and the losses are divided by something else.
        assert a.loss_normalizer < b.loss_normalizer
        assert not same
