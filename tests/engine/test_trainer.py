"""Whole trainings: both stages, resume, cached regions, the meta step, and what bad input says."""

from __future__ import annotations

import json
import os

import pytest
import torch
from detectron2.engine import DefaultTrainer
from detectron2.utils.events import EventStorage

from lt_det.data.stats.class_stats import ClassStats
from lt_det.engine.meta.step_model import MetaStepModel
from lt_det.engine.trainer import LongTailTrainer
from lt_det.modeling.roi.roi_heads import box_predictors
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import NUM_CLASSES

META = {
    "LT_DET__META__ENABLED": True,
    "LT_DET__META__LR": 0.1,
    "LT_DET__DECOUPLED": True,
    "LT_DET__LOSS": "balanced_sigmoid",
}


@pytest.fixture(scope="module")
def stage_1(tmp_path_factory):
    """The checkpoint of four iterations of sigmoid training."""
    cfg = tiny_config(tmp_path_factory.mktemp("stage1"), LT_DET__LOSS="sigmoid_ce")
    train(cfg)
    return os.path.join(cfg.OUTPUT_DIR, "model_final.pth")


def train(cfg, *, resume: bool = False) -> LongTailTrainer:
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def final_state(cfg) -> dict:
    path = os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
    return torch.load(path, weights_only=True)


def under_autocast() -> bool:
    """torch's own question has another name in each version."""
    return (torch.ones(1, 1) @ torch.ones(1, 1)).dtype is torch.bfloat16


def metrics(cfg) -> list[dict]:
    with open(os.path.join(cfg.OUTPUT_DIR, "metrics.json")) as file:
        return [json.loads(line) for line in file]


def test_checkpoint_holds_the_class_statistics(stage_1):
    stats = ClassStats.from_dict(torch.load(stage_1, weights_only=True)["class_stats"])
    assert stats.class_names == tuple(f"class_{k}" for k in range(NUM_CLASSES))
    assert stats.image_counts[0] == 8
    assert list(stats.image_counts) == sorted(stats.image_counts, reverse=True)


def test_default_losses_are_those_of_detectron2_s_trainer(tmp_path):
    """LT_DET's defaults through our trainer and through DefaultTrainer: the same first losses."""
    losses = []
    for trainer_class in (DefaultTrainer, LongTailTrainer):
        cfg = tiny_config(tmp_path, DATASETS__TEST=(), SOLVER__MAX_ITER=1)
        trainer = trainer_class(cfg)
        batch = next(iter(LongTailTrainer.build_train_loader(cfg)))
        torch.manual_seed(0)
        trainer.model.load_state_dict(
            torch.load(tmp_path / "start.pth") if losses else trainer.model.state_dict()
        )
        torch.save(trainer.model.state_dict(), tmp_path / "start.pth")
        with EventStorage():
            torch.manual_seed(1)
            losses.append({k: v.item() for k, v in trainer.model(batch).items()})
    assert losses[0] == losses[1]


@pytest.mark.parametrize("kind", ["standard", "cascade"])
@pytest.mark.parametrize("cache", [False, True])
def test_second_stage_resumes_bit_by_bit(tmp_path, kind, cache):
    no_test = {"DATASETS__TEST": (), "LT_DET__LOSS": "sigmoid_ce"}
    first = tiny_config(tmp_path / "a", kind, **no_test, SOLVER__MAX_ITER=1)
    train(first)
    keys = {
        **no_test,
        **META,
        "MODEL__WEIGHTS": os.path.join(first.OUTPUT_DIR, "model_final.pth"),
        "LT_DET__REGION_CACHE__ENABLED": cache,
        "LT_DET__META__INTERVAL": 2,
    }
    whole = tiny_config(tmp_path / "whole", kind, **keys)
    train(whole)
    halves = tiny_config(tmp_path / "halves", kind, **keys)
    train(tiny_config(tmp_path / "halves", kind, **{**keys, "SOLVER__MAX_ITER": 2}))
    trainer = train(halves, resume=True)
    assert trainer.start_iter == 2

    expected, state = final_state(whole), final_state(halves)
    for name, value in expected["model"].items():
        assert torch.equal(state["model"][name], value), name
    psi = state["trainer"]["meta"]["psi"]
    assert torch.equal(psi, expected["trainer"]["meta"]["psi"])
    assert psi.abs().max() > 0.05
    adam, expected_adam = (s["trainer"]["meta"]["optimizer"]["state"][0] for s in (state, expected))
    assert torch.equal(adam["exp_avg_sq"], expected_adam["exp_avg_sq"])
    # psi moved in iterations 0 and 2 of 4.
    assert adam["step"] == 2


def test_second_stage_moves_the_classifier_only(tmp_path, stage_1):
    cfg = tiny_config(tmp_path, **META, MODEL__WEIGHTS=stage_1)
    trainer = train(cfg)
    before, after = torch.load(stage_1)["model"], final_state(cfg)["model"]
    changed = {name for name in before if name in after and not before[name].equal(after[name])}
    assert changed == {f"roi_heads.box_predictor.cls_score.{p}" for p in ("weight", "bias")}

    # Learned weights reach the log, a file and a picture.
    assert any("meta/weight_rare" in line for line in metrics(cfg))
    with open(os.path.join(cfg.OUTPUT_DIR, "class_weights.json")) as file:
        weights = json.load(file)
    expected = trainer.meta.relative_values()
    assert [w["weight"] for w in weights.values()] == pytest.approx(expected.tolist())
    assert os.path.getsize(os.path.join(cfg.OUTPUT_DIR, "class_weights.png")) > 1000


@pytest.mark.parametrize("regions", ["forward", "bank"])
@pytest.mark.parametrize("meta_loss", ["plain", "balanced"])
def test_meta_batches_from_either_source(tmp_path, stage_1, regions, meta_loss):
    cfg = tiny_config(
        tmp_path,
        **META,
        MODEL__WEIGHTS=stage_1,
        DATASETS__TEST=(),
        LT_DET__META__REGIONS=regions,
        LT_DET__META__LOSS=meta_loss,
        LT_DET__META__INNER_STEP="optimizer",
    )
    trainer = train(cfg)
    assert trainer.meta.reweighter.psi.abs().max() > 0.05


def test_cached_regions_give_the_losses_of_the_detector(tmp_path, stage_1):
    """Fed the same regions, the cut-down model computes what the whole detector computes."""
    from lt_det.engine.regions.cache import split_by_image
    from lt_det.engine.regions.classifier import RegionClassifier
    from lt_det.engine.regions.tap import RegionTap

    cfg = tiny_config(
        tmp_path, LT_DET__DECOUPLED=True, LT_DET__LOSS="sigmoid_ce", MODEL__WEIGHTS=stage_1
    )
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    batch = next(iter(LongTailTrainer.build_train_loader(cfg)))
    detector = trainer.model
    with EventStorage(), RegionTap(detector) as stages:
        expected = detector(batch)["loss_cls"]
    records = split_by_image(stages)
    assert len(records) == len(batch)
    losses = RegionClassifier(detector).train()(records)
    assert list(losses) == ["loss_cls"]
    torch.testing.assert_close(losses["loss_cls"], expected)


def test_real_step_uses_the_weights_after_the_meta_step(tmp_path, stage_1):
    cfg = tiny_config(tmp_path, **META, MODEL__WEIGHTS=stage_1, DATASETS__TEST=())
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer._build_streams()
    model = trainer.model
    assert isinstance(model, MetaStepModel)
    (predictor,) = box_predictors(model)
    seen = []
    predictor.region_weighting = lambda labels: seen.append(trainer.meta.weigh(labels)) or seen[-1]
    with EventStorage():
        losses = model(next(iter(trainer._stream)))
    before, after = seen
    assert torch.equal(before, torch.ones_like(before))
    assert not torch.equal(after, before)
    assert torch.isfinite(losses["loss_cls"])


def test_meta_step_under_autocast_is_that_of_full_precision(tmp_path, stage_1):
    """AMPTrainer itself needs CUDA; what it does to the model is to call it under autocast."""
    gradients = []
    for enabled in (False, True):
        cfg = tiny_config(tmp_path, **META, MODEL__WEIGHTS=stage_1, DATASETS__TEST=())
        trainer = LongTailTrainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer._build_streams()
        update = trainer.meta.update
        seen = []

        def recorded(stages, optimizer, update=update, seen=seen):
            seen.append((stages[0].regions.features.dtype, under_autocast()))
            seen.append(update(stages, optimizer))

        trainer.meta.update = recorded
        batch = next(iter(trainer._stream))
        torch.manual_seed(1)
        with EventStorage(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses = trainer.model(batch)
        sum(losses.values()).backward()
        assert seen[0] == (torch.float32, False)
        assert all(torch.isfinite(v) for v in losses.values())
        gradients.append(seen[1])
    cosine = torch.nn.functional.cosine_similarity(*gradients, dim=0)
    assert cosine.item() > 0.5  # other proposals, features of 8 bits: alike, not equal


def test_only_the_meta_step_leaves_autocast(tmp_path, stage_1):
    """The forward of the meta batch stays in half precision: it costs as much as training's."""
    cfg = tiny_config(tmp_path, **META, MODEL__WEIGHTS=stage_1, DATASETS__TEST=())
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer._build_streams()
    seen = []
    batches = trainer._meta_batches
    trainer._meta_batches = lambda: seen.append(under_autocast()) or batches()
    with EventStorage(), torch.autocast("cpu", torch.bfloat16):
        trainer.model(next(iter(trainer._stream)))
    assert seen == [True]


def test_inner_step_has_the_weight_of_the_real_one(tmp_path, stage_1):
    """MODEL.ROI_BOX_HEAD.* may weigh the classification loss: the virtual step is as long."""
    cfg = tiny_config(tmp_path, **META, MODEL__WEIGHTS=stage_1, DATASETS__TEST=())
    gradients = []
    for weight, scale in ((1.0, 1.0), (0.5, 1.0), (0.5, 2.0)):
        trainer = LongTailTrainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer._build_streams()
        (predictor,) = box_predictors(trainer.model)
        predictor.loss_weight = {"loss_cls": weight}
        for group in trainer.optimizer.param_groups:
            group["lr"] = 0.1 * scale
        update = trainer.meta.update
        trainer.meta.update = lambda *a, update=update: gradients.append(update(*a))
        torch.manual_seed(1)
        with EventStorage():
            trainer.model(next(iter(trainer._stream)))
    # Half the loss with twice the rate is the same step; half the loss alone is not.
    torch.testing.assert_close(gradients[2], gradients[0])
    assert not torch.allclose(gradients[1], gradients[0], rtol=0.1)


def test_batch_without_foreground_is_harmless(tmp_path, stage_1):
    cfg = tiny_config(tmp_path, **META, MODEL__WEIGHTS=stage_1, DATASETS__TEST=())
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer._build_streams()
    batch = next(iter(trainer._stream))
    for record in batch:
        record["instances"] = record["instances"][:0]
    with EventStorage():
        losses = trainer.model(batch)
    sum(losses.values()).backward()
    assert all(torch.isfinite(v) for v in losses.values())
    assert torch.equal(trainer.meta.reweighter.psi, torch.zeros(NUM_CLASSES))


class TestBadInput:
    def test_second_stage_without_weights(self, tmp_path):
        trainer = LongTailTrainer(tiny_config(tmp_path, **META))
        with pytest.raises(ValueError, match="set MODEL.WEIGHTS to its checkpoint"):
            trainer.resume_or_load(resume=False)

    def test_second_stage_from_a_backbone(self, tmp_path, stage_1):
        state = torch.load(stage_1)["model"]
        backbone = {k: v for k, v in state.items() if k.startswith("backbone.")}
        torch.save({"model": backbone}, tmp_path / "backbone.pth")
        cfg = tiny_config(tmp_path, **META, MODEL__WEIGHTS=str(tmp_path / "backbone.pth"))
        trainer = LongTailTrainer(cfg)
        with pytest.raises(ValueError, match=r"is not a stage-1 checkpoint .* parameters are"):
            trainer.resume_or_load(resume=False)

    def test_meta_without_the_second_stage(self, tmp_path):
        cfg = tiny_config(tmp_path, LT_DET__META__ENABLED=True)
        with pytest.raises(ValueError, match="set LT_DET.DECOUPLED True"):
            LongTailTrainer(cfg)

    def test_number_of_classes(self, tmp_path):
        cfg = tiny_config(tmp_path, MODEL__ROI_HEADS__NUM_CLASSES=7)
        with pytest.raises(ValueError, match="MODEL.ROI_HEADS.NUM_CLASSES is 7.* has 6 classes"):
            LongTailTrainer(cfg)

    def test_nan_names_the_iteration_and_spares_the_checkpoint(self, tmp_path):
        cfg = tiny_config(tmp_path, DATASETS__TEST=(), LT_DET__LOSS="sigmoid_ce")
        trainer = LongTailTrainer(cfg)
        trainer.resume_or_load(resume=False)
        (predictor,) = box_predictors(trainer.model)
        real = predictor.forward

        def poisoned(features):
            logits, deltas = real(features)
            return (logits * float("nan") if trainer.iter == 3 else logits), deltas

        predictor.forward = poisoned
        with pytest.raises(
            FloatingPointError,
            match=r"iteration=3[\s\S]*loss_cls[\s\S]*last checkp"
            r"oint is .*model_0000001.pth",
        ):
            trainer.train()
        assert trainer.checkpointer.get_checkpoint_file().endswith("model_0000001.pth")
        state = torch.load(trainer.checkpointer.get_checkpoint_file(), weights_only=True)["model"]
        assert all(torch.isfinite(v).all() for v in state.values() if v.is_floating_point())
        assert all(torch.isfinite(p).all() for p in trainer.model.parameters())

    def test_resuming_a_run_without_class_weights(self, tmp_path, stage_1):
        keys = {**META, "MODEL__WEIGHTS": stage_1, "DATASETS__TEST": ()}
        train(tiny_config(tmp_path, **{**keys, "LT_DET__META__ENABLED": False}))
        trainer = LongTailTrainer(tiny_config(tmp_path, **keys))
        with pytest.raises(ValueError, match="checkpoint to resume from has no class weights"):
            trainer.resume_or_load(resume=True)
