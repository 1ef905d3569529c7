"""LT_DET.PATCH: heads of other projects in all that the trainer does."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, StandardROIHeads

from lt_det.engine.trainer import LongTailTrainer
from lt_det.modeling.classifiers.classification_head import classification_heads
from lt_det.modeling.patching.overrides import patches
from tests.engine.test_trainer import final_state, train
from tests.engine.tiny import tiny_config
from tests.modeling.foreign_heads import FOREIGN
from tests.modeling.small_models import HEADS, NUM_CLASSES, as_resnet18, as_retinanet

LOSSES = {"squared": "softmax", "sequential": "sigmoid", "cosine": "softmax"}
TRAINED = {
    "squared": {"cls_score.weight", "cls_score.bias"},
    "sequential": {"cls_score.linear.weight", "cls_score.linear.bias"},
    "cosine": {"cls_score.weight", "scale"},
}


def _heads(kind: str) -> str:
    """Return the registered name of ROI heads with a foreign predictor."""
    name = f"{kind.title()}HeadsOfATest"

    class Heads(StandardROIHeads):
        @classmethod
        def _init_box_head(cls, cfg, input_shape):
            ret = super()._init_box_head(cfg, input_shape)
            shape = ret["box_head"].output_shape
            return {**ret, "box_predictor": FOREIGN[kind](cfg, shape)}

    Heads.__name__ = name
    if name not in ROI_HEADS_REGISTRY:
        ROI_HEADS_REGISTRY.register(Heads)
    return name


def foreign_config(folder, kind, *, loss="balanced", **keys):
    cfg = tiny_config(
        folder,
        LT_DET__PATCH=True,
        LT_DET__LOSS=f"{loss}_{LOSSES[kind]}",
        MODEL__ROI_HEADS__NAME=_heads(kind),
        **keys,
    )
    cfg.MODEL.MASK_ON = False
    return as_resnet18(cfg)  # with the narrow one psi of the sequential kind stays 0


def second_stage(cfg, folder, weights, **keys):
    cfg = cfg.clone()
    cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS = str(folder), weights
    cfg.LT_DET.DECOUPLED = cfg.LT_DET.META.ENABLED = True
    cfg.merge_from_list([w for k, v in keys.items() for w in (k.replace("__", "."), v)])
    return cfg


@pytest.mark.parametrize("kind", ["standard", "cascade"])
def test_patched_stock_heads_train_as_ours(tmp_path, kind):
    """Stage 1, then stage 2 with the Meta Reweighter: to the last bit."""
    states, psis = [], []
    stock = {"LT_DET__PATCH": True, "MODEL__ROI_HEADS__NAME": HEADS[kind][0]}
    for name, keys in {"ours": {}, "patched": stock}.items():
        cfg = tiny_config(tmp_path, kind, LT_DET__LOSS="balanced_softmax", **keys)
        cfg.SOLVER.MAX_ITER, cfg.MODEL.MASK_ON, cfg.DATASETS.TEST = 2, False, ()
        cfg.OUTPUT_DIR = str(tmp_path / name / "1")
        torch.manual_seed(0)
        train(cfg)
        cfg = second_stage(cfg, tmp_path / name / "2", f"{cfg.OUTPUT_DIR}/model_final.pth")
        psis.append(train(cfg).meta.psi)
        states.append(final_state(cfg)["model"])
    assert torch.equal(*psis)
    assert psis[0].abs().sum() > 0
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_heads(tmp_path, kind):
    cfg = foreign_config(tmp_path, kind)
    cfg.SOLVER.MAX_ITER = 2
    first = train(cfg)
    assert type(first.model.roi_heads.box_predictor) is FOREIGN[kind]
    weights = f"{cfg.OUTPUT_DIR}/model_final.pth"
    assert not [k for k in final_state(cfg)["model"] if "lt_det" in k]

    for cache in (False, True):
        stage = second_stage(
            cfg, tmp_path / f"cache_{cache}", weights, LT_DET__REGION_CACHE__ENABLED=cache
        )
        trainer = train(stage)
        trained = {n for n, p in trainer._detector.named_parameters() if p.requires_grad}
        assert trained == {f"roi_heads.box_predictor.{name}" for name in TRAINED[kind]}
        assert torch.isfinite(trainer.meta.psi).all()
        assert trainer.meta.psi.abs().sum() > 0
        before = torch.load(weights, weights_only=True)["model"]
        for name, value in final_state(stage)["model"].items():
            moved = name.removeprefix("roi_heads.box_predictor.") in TRAINED[kind]
            assert torch.equal(value, before[name]) != moved or "cosine" in kind, name

    # In evaluation the same heads find something.
    stage.MODEL.WEIGHTS = weights
    LongTailTrainer.evaluate_checkpoint(stage)


@pytest.mark.parametrize("kind", FOREIGN)
def test_cached_regions_give_the_losses_of_the_detector(tmp_path, kind):
    from detectron2.utils.events import EventStorage

    from lt_det.engine.regions.cache import split_by_image
    from lt_det.engine.regions.classifier import RegionClassifier
    from lt_det.engine.regions.tap import RegionTap

    cfg = foreign_config(tmp_path, kind)
    trainer = LongTailTrainer(cfg)
    model = trainer.model.train()
    batch = next(iter(trainer._loader))
    with EventStorage(), RegionTap(model) as stages:
        losses = model(batch)
    found = RegionClassifier(model).train()(split_by_image(stages))
    torch.testing.assert_close(found["loss_cls"], losses["loss_cls"])


def test_reset_classifier_starts_the_logits_anew_and_nothing_else(tmp_path):
    cfg = foreign_config(tmp_path, "cosine")
    cfg.SOLVER.MAX_ITER = 1
    train(cfg)
    weights = f"{cfg.OUTPUT_DIR}/model_final.pth"
    stage = second_stage(cfg, tmp_path / "reset", weights, LT_DET__RESET_CLASSIFIER=True)
    trainer = LongTailTrainer(stage)
    predictor = trainer._detector.roi_heads.box_predictor
    fresh = predictor.cls_score.weight.detach().clone()
    trainer.resume_or_load(resume=False)
    state = torch.load(weights, weights_only=True)["model"]
    name = "roi_heads.box_predictor.bbox_pred.weight"
    assert torch.equal(predictor.cls_score.weight, fresh)
    assert torch.equal(predictor.bbox_pred.weight, state[name])


def test_post_hoc_corrections_of_foreign_scores(tmp_path):
    cfg = foreign_config(tmp_path, "squared", loss="softmax")
    cfg.LT_DET.LOSS = "softmax_ce"
    plain = LongTailTrainer.build_model(cfg)
    cfg.LT_DET.POST_HOC.LOGIT_ADJUSTMENT = 1.0
    corrected = LongTailTrainer.build_model(cfg)
    corrected.load_state_dict(plain.state_dict())
    (head,) = classification_heads(corrected)
    counts = torch.tensor([8.0, 4, 2, 1, 1, 1])
    head.post_hoc.bind(counts)
    features = torch.randn(5, plain.roi_heads.box_predictor.cls_score.in_features)
    with torch.no_grad():
        logits, *others = plain.roi_heads.box_predictor(features)
        logits[:, :NUM_CLASSES] -= (counts / counts.mean()).log()
        (expected,) = plain.roi_heads.box_predictor.predict_probs((logits, *others), [range(5)])
        predictor = corrected.roi_heads.box_predictor
        (scores,) = predictor.predict_probs(predictor(features), [range(5)])
    torch.testing.assert_close(scores, expected)


def test_retinanet_of_detectron2(tmp_path):
    cfg = as_retinanet(tiny_config(tmp_path), ours=False, loss="balanced_sigmoid")
    cfg.LT_DET.PATCH = True
    trainer = train(cfg)
    assert trainer.storage.latest()["loss_cls"][0] > 0
    assert list(final_state(cfg)["model"]) == list(build_model(cfg).state_dict())


def test_without_the_key_nothing_is_patched(tmp_path):
    cfg = foreign_config(tmp_path, "squared")
    cfg.LT_DET.PATCH = False
    with pytest.raises(ValueError, match="LT_DET.LOSS would do nothing.*LT_DET.PATCH True"):
        LongTailTrainer(cfg)
    cfg.LT_DET.LOSS = "softmax_ce"
    cfg.LT_DET.DECOUPLED = True
    with pytest.raises(ValueError, match="set LT_DET.PATCH True"):
        LongTailTrainer(cfg)


def test_keys_of_our_heads_are_refused(tmp_path):
    cfg = foreign_config(tmp_path, "squared")
    cfg.LT_DET.CLASSIFIER.NAME, cfg.LT_DET.PRIOR_PROB = "cosine", 0.1
    with pytest.raises(ValueError, match="CLASSIFIER and LT_DET.PRIOR_PROB would do nothing"):
        LongTailTrainer(cfg)


def test_heads_of_ours_need_no_patch(tmp_path):
    cfg = tiny_config(tmp_path, LT_DET__PATCH=True, LT_DET__LOSS="sigmoid_ce")
    model = LongTailTrainer.build_model(cfg)
    assert not patches(model)
