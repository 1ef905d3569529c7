"""Keys that only our trainer reads, in Detectron2's."""

from __future__ import annotations

import pytest
import torch
from detectron2.data import build_detection_train_loader
from detectron2.engine import DefaultTrainer
from detectron2.utils.events import EventStorage

from lt_det.engine.trainer import LongTailTrainer
from lt_det.modeling.classifiers.decoupled import freeze_all_but_classifier
from lt_det.modeling.trainer_keys import OF_LOADER
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import as_retinanet, small_batch, small_model


def default_training(cfg):
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()


@pytest.mark.parametrize("retinanet", [False, True])
@pytest.mark.parametrize("keys", [("DECOUPLED",), ("DECOUPLED", "META.ENABLED")])
def test_the_first_batch_is_refused(tmp_path, keys, retinanet):
    cfg = tiny_config(tmp_path)
    if retinanet:
        as_retinanet(cfg)
    cfg.merge_from_list([word for key in keys for word in (f"LT_DET.{key}", True)])
    message = " and ".join(f"LT_DET.{key}" for key in keys)
    with pytest.raises(RuntimeError, match=f"{message} would do nothing .*LongTailTrainer"):
        default_training(cfg)


@pytest.mark.parametrize("key", ["SAMPLER.NAME", "DEFER.SAMPLER"])
def test_a_sampler_that_would_not_be_built_is_refused(tmp_path, key):
    cfg = tiny_config(tmp_path)
    cfg.merge_from_list([f"LT_DET.{key}", "class_aware", "LT_DET.DEFER.START_ITER", 1])
    if key == "SAMPLER.NAME":
        cfg.LT_DET.DEFER.START_ITER = 0
    with pytest.raises(RuntimeError, match=f"LT_DET.{key} would do nothing .*LongTailTrainer"):
        default_training(cfg)
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("CLASSIFIER.DISALIGN", True),
        ("COPY_PASTE.ENABLED", True),
        ("REGION_CACHE.ENABLED", True),
        ("RESET_CLASSIFIER", True),
        ("START_CLASSES", "nowhere"),
        ("BEST_CHECKPOINT", "bbox/AP"),
        ("EARLY_STOPPING", 3),
    ],
)
def test_what_else_would_do_nothing_is_refused(tmp_path, key, value):
    cfg = tiny_config(tmp_path)
    cfg.merge_from_list([f"LT_DET.{key}", value])
    model = small_model(cfg).train()
    with EventStorage(), pytest.raises(RuntimeError, match=f"^LT_DET.{key} would do nothing"):
        model(small_batch())
    with EventStorage(), torch.no_grad():  # nothing is trained
        model(small_batch())


@pytest.mark.parametrize("key", OF_LOADER)
def test_a_loader_of_ones_own_neither_draws_nor_pastes(tmp_path, key):
    class Trainer(LongTailTrainer):
        @classmethod
        def build_train_loader(cls, cfg):
            return build_detection_train_loader(cfg)

    cfg = tiny_config(tmp_path)
    cfg.merge_from_list([key, True if key.endswith("ENABLED") else "class_aware"])
    cfg.LT_DET.DEFER.START_ITER = int("DEFER" in key)
    with pytest.raises(ValueError, match=f"{key} would do nothing: build_train_loader returns"):
        Trainer(cfg)


def test_who_freezes_by_hand_may_train(tmp_path):
    cfg = tiny_config(tmp_path, LT_DET__DECOUPLED=True)
    model = freeze_all_but_classifier(small_model(cfg)).train()
    with EventStorage():
        model(small_batch())
    cfg.LT_DET.META.ENABLED = True
    model = freeze_all_but_classifier(small_model(cfg)).train()
    with EventStorage(), pytest.raises(RuntimeError, match="^LT_DET.META.ENABLED would do"):
        model(small_batch())
    model.eval()(small_batch())
