"""LogN from the command line to the detections."""

from __future__ import annotations

import json

import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch.nn.modules.batchnorm import _BatchNorm

from lt_det.cli.commands import main
from lt_det.data.records.dataset_dicts import build_train_dicts
from lt_det.engine.evaluated_model import load_evaluated_model
from lt_det.engine.loading.train_stream import seed_everything
from lt_det.engine.logit_moments import collect_logit_moments
from lt_det.engine.trainer import LongTailTrainer
from lt_det.modeling.calibration import logn
from lt_det.modeling.roi.roi_heads import box_predictors
from tests.engine.digits import digits_config
from tests.engine.test_image_classification import train
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import NUM_CLASSES, as_retinanet


def trained(tmp_path, kind="standard", **keys):
    cfg = tiny_config(tmp_path, kind, **keys)
    cfg.SOLVER.MAX_ITER = 2
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    cfg.MODEL.WEIGHTS = f"{cfg.OUTPUT_DIR}/model_final.pth"
    return cfg


@pytest.mark.parametrize("kind", ["standard", "cascade"])
def test_from_the_command_to_the_scores(tmp_path, capsys, kind):
    cfg = trained(tmp_path, kind)
    config = tmp_path / "config.yaml"
    config.write_text(cfg.dump())
    file = tmp_path / "new" / "moments.json"
    assert main(["logit-moments", "--config-file", str(config), "--output", str(file)]) == 0
    assert f"LT_DET.POST_HOC.LOGN {file}" in capsys.readouterr().out
    written = json.loads(file.read_text())
    assert len(written["stages"]) == (3 if kind == "cascade" else 1)
    assert [len(stage["mean"]) for stage in written["stages"]] == [NUM_CLASSES + 1] * len(
        written["stages"]
    )
    cfg.LT_DET.POST_HOC.LOGN = str(file)
    corrected = build_model(cfg).eval()
    load_evaluated_model(cfg, corrected, resume=False)
    for stage, predictor in zip(written["stages"], box_predictors(corrected)):
        mean, variance = (
            torch.tensor(stage[k], dtype=torch.float64)[:NUM_CLASSES] for k in ("mean", "variance")
        )
        logits = torch.randn(3, NUM_CLASSES + 1)
        expected = logn(mean, variance)(logits, background=True)
        assert torch.equal(predictor.inference_logits(logits), expected)


def test_moments_are_those_of_all_regions(tmp_path):
    """Of few images with all their regions in one forward, from the tensor as a whole."""
    cfg = trained(tmp_path)
    cfg.SEED = 3
    (moments,) = collect_logit_moments(cfg, max_images=4)
    model = build_model(cfg)
    load_evaluated_model(cfg, model, resume=False)
    (predictor,) = box_predictors(model.train())
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()  # running statistics, as at inference
    seen = []
    predictor.cls_score.register_forward_hook(lambda _m, _i, out: seen.append(out.detach()))
    model.roi_heads.mask_on = False
    seed_everything(3, 0)
    dicts, mapper = build_train_dicts(cfg), DatasetMapper(cfg, True)
    with torch.no_grad(), EventStorage():
        model([mapper(dicts[i]) for i in range(0, 8, 2)])
    (logits,) = seen
    assert moments.count == len(logits)
    torch.testing.assert_close(moments.mean, logits.double().mean(dim=0), rtol=1e-9, atol=1e-12)
    expected = logits.double().var(dim=0, unbiased=False)
    torch.testing.assert_close(moments.variance, expected, rtol=1e-9, atol=1e-15)


def test_of_an_image_classifier(tmp_path):
    cfg = digits_config(tmp_path, "SOLVER.MAX_ITER", 2)
    train(cfg)
    cfg.MODEL.WEIGHTS = f"{cfg.OUTPUT_DIR}/model_final.pth"
    (moments,) = collect_logit_moments(cfg)
    assert moments.count > 100
    assert len(moments.mean) == 10
    assert bool((moments.variance > 0).all())


def test_what_users_get_wrong(tmp_path, capsys):
    cfg = as_retinanet(tiny_config(tmp_path))
    cfg.MODEL.WEIGHTS = "none.pth"
    config = tmp_path / "config.yaml"
    config.write_text(cfg.dump())
    words = ["logit-moments", "--config-file", str(config), "--output", str(tmp_path / "m.json")]
    assert main(words) == 1
    assert "LongTailRetinaNet has neither" in capsys.readouterr().err
    config.write_text(tiny_config(tmp_path).dump())
    assert main(words) == 1
    assert "nothing to evaluate: set MODEL.WEIGHTS" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--max-images", "-1"])
    assert not (tmp_path / "m.json").exists()
