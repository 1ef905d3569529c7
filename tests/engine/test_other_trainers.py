"""Keys that only our trainer reads, in Detectron2's."""

from __future__ import annotations

import pytest
from detectron2.engine import DefaultTrainer
from detectron2.utils.events import EventStorage

from lt_det.engine.trainer import LongTailTrainer
from lt_det.modeling.classifiers.decoupled import freeze_all_but_classifier
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
