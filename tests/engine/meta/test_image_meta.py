"""Second stages and meta learners of image classifiers, whole trainings on the digits."""

from __future__ import annotations

import json

import pytest
import torch

from lt_det.engine.trainer import LongTailTrainer
from lt_det.meta.meta_reweighter import MetaReweighter
from lt_det.meta.meta_sampler import MetaSampler
from tests.engine.digits import digits_config
from tests.engine.test_image_classification import results_of, train

STAGE_2 = ("LT_DET.DECOUPLED", True, "SOLVER.WARMUP_ITERS", 0, "LT_DET.LOSS", "balanced_softmax")
META = ("LT_DET.META.ENABLED", True, "LT_DET.META.LR", 0.05, "SOLVER.MAX_ITER", 40)
SAMPLER = (*META, "LT_DET.META.METHOD", "sampler")


@pytest.fixture(scope="module")
def stage_1(tmp_path_factory):
    cfg = digits_config(tmp_path_factory.mktemp("stage_1"))
    train(cfg)
    return cfg


def stage_2(stage_1, folder, *options):
    weights = ("MODEL.WEIGHTS", f"{stage_1.OUTPUT_DIR}/model_final.pth")
    return digits_config(folder, *STAGE_2, *weights, *options)


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("estimator", ["score", "gumbel"])
def test_meta_sampler_draws_the_few_more_often(tmp_path, stage_1, cache, estimator):
    keys = ("LT_DET.REGION_CACHE.ENABLED", cache, "LT_DET.META.ESTIMATOR", estimator)
    cfg = stage_2(stage_1, tmp_path, *SAMPLER, *keys)
    trainer = train(cfg)
    assert isinstance(trainer.meta, MetaSampler)
    with open(f"{cfg.OUTPUT_DIR}/class_rates.json") as file:
        rates = json.load(file)
    assert [r["rate"] for r in rates.values()] == pytest.approx(
        trainer.meta.relative_values().tolist()
    )
    assert (tmp_path / "out" / "class_rates.png").stat().st_size > 1000
    assert (trainer.meta.rates() - 0.5).abs().max() > 0.1
    # The backbone is that of stage 1, batch norm included.
    before = torch.load(f"{stage_1.OUTPUT_DIR}/model_final.pth")["model"]
    after = trainer._detector.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"cls_score.weight", "cls_score.bias"}
    assert results_of(cfg)["few"] > results_of(stage_1)["few"] + 10


def test_batches_follow_the_rates(tmp_path, stage_1):
    trainer = LongTailTrainer(stage_2(stage_1, tmp_path, *SAMPLER))
    trainer.resume_or_load(resume=False)
    trainer._build_streams()
    with torch.no_grad():
        trainer.meta.psi.fill_(-20.0)
        trainer.meta.psi[3] = 20.0
    batches = iter(trainer._stream)
    assert {x["category_id"] for x in next(batches)} == {3}
    with torch.no_grad():
        trainer.meta.psi[3], trainer.meta.psi[9] = -20.0, 20.0
    assert {x["category_id"] for x in next(batches)} == {9}
    meta = trainer._next_meta_batch()[0]
    assert len(meta.labels.unique()) > 5


@pytest.mark.parametrize("method", ["sampler", "reweighter"])
def test_a_resumed_meta_run_repeats_an_uninterrupted_one(tmp_path, stage_1, method):
    options = (*META, "LT_DET.META.METHOD", method, "SOLVER.MAX_ITER", 6)
    options += ("SOLVER.CHECKPOINT_PERIOD", 1, "LT_DET.META.INTERVAL", 2)
    whole = train(stage_2(stage_1, tmp_path / "whole", *options))
    cfg = stage_2(stage_1, tmp_path / "parts", *options)
    first = LongTailTrainer(cfg)
    first.resume_or_load(resume=False)
    first.max_iter = 3
    first.train()
    second = LongTailTrainer(cfg)
    second.resume_or_load(resume=True)
    assert second.start_iter == 3
    second.train()
    assert torch.equal(whole.meta.psi, second.meta.psi)
    assert whole.meta.psi.abs().max() > 0.05
    for name, value in whole._detector.state_dict().items():
        assert torch.equal(value, second._detector.state_dict()[name]), name


@pytest.mark.parametrize("method", ["sampler", "reweighter"])
def test_inner_step_of_the_whole_network(tmp_path, method):
    cfg = digits_config(
        tmp_path, *META, "LT_DET.META.METHOD", method, "LT_DET.META.SCOPE", "network"
    )
    trainer = train(cfg)
    assert isinstance(trainer.meta, MetaSampler if method == "sampler" else MetaReweighter)
    assert trainer.meta.psi.abs().max() > 0.1
    assert results_of(cfg)["top1"] > 20


def test_classifier_starts_anew_where_asked(tmp_path, stage_1):
    classifiers = []
    for reset in (False, True):
        cfg = stage_2(stage_1, tmp_path / str(reset), "LT_DET.RESET_CLASSIFIER", reset)
        trainer = LongTailTrainer(cfg)
        trainer.resume_or_load(resume=False)
        classifiers.append(trainer._detector.cls_score.weight.detach())
        backbone = trainer._detector.backbone.state_dict()
    old = torch.load(f"{stage_1.OUTPUT_DIR}/model_final.pth")["model"]
    assert torch.equal(classifiers[0], old["cls_score.weight"])
    assert not torch.isclose(classifiers[1], old["cls_score.weight"]).any()
    assert all(torch.equal(v, old[f"backbone.{k}"]) for k, v in backbone.items())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("LT_DET.META.METHOD", "other"), "METHOD"),
        (("LT_DET.META.SCOPE", "all"), "SCOPE"),
        (("LT_DET.META.SCOPE", "network", "LT_DET.DECOUPLED", True), "without LT_DET.DECOUPLED"),
        ((), "LT_DET.DECOUPLED"),
    ],
)
def test_contradictions_are_named(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        LongTailTrainer(digits_config(tmp_path, "LT_DET.META.ENABLED", True, *options))
