"""The class methods that Detectron2 users override are the ones that the trainer calls."""

from __future__ import annotations

import os

import pytest
import torch
from detectron2.data import DatasetMapper, build_detection_train_loader
from detectron2.evaluation import DatasetEvaluator

from lt_det.engine.trainer import LongTailTrainer
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import NUM_CLASSES

SEEN: list[int] = []


class CountingMapper(DatasetMapper):
    def __call__(self, dataset_dict):
        SEEN.append(dataset_dict["image_id"])
        return super().__call__(dataset_dict)


class OwnMapper(LongTailTrainer):
    @classmethod
    def build_train_loader(cls, cfg):
        return super().build_train_loader(cfg, mapper=CountingMapper(cfg, True))


class PlainLoader(LongTailTrainer):
    @classmethod
    def build_train_loader(cls, cfg):
        return build_detection_train_loader(cfg, mapper=CountingMapper(cfg, True))


class Counted(DatasetEvaluator):
    def __init__(self):
        self.images = 0

    def process(self, inputs, _outputs):
        self.images += len(inputs)

    def evaluate(self):
        return {"mine": {"images": self.images}}


class OwnEvaluator(LongTailTrainer):
    @classmethod
    def build_evaluator(cls, *_args):
        return Counted()


def train(trainer_class, cfg):
    SEEN.clear()
    trainer = trainer_class(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def stage_1(tmp_path_factory):
    cfg = tiny_config(
        tmp_path_factory.mktemp("stage1"),
        LT_DET__LOSS="sigmoid_ce",
        SOLVER__MAX_ITER=1,
        DATASETS__TEST=(),
    )
    train(LongTailTrainer, cfg)
    return os.path.join(cfg.OUTPUT_DIR, "model_final.pth")


def stage_2(folder, weights, **keys):
    return tiny_config(
        folder,
        DATASETS__TEST=(),
        MODEL__WEIGHTS=weights,
        LT_DET__LOSS="balanced_sigmoid",
        LT_DET__DECOUPLED=True,
        SOLVER__MAX_ITER=2,
        **keys,
    )


@pytest.mark.parametrize("trainer_class", [OwnMapper, PlainLoader])
def test_own_mapper_loads_the_training_images(tmp_path, trainer_class, caplog):
    train(trainer_class, tiny_config(tmp_path, DATASETS__TEST=(), SOLVER__MAX_ITER=2))
    assert len(SEEN) >= 4  # 2 iterations of 2 images; Detectron2's loader may be ahead
    warned = "no TrainStream: a resumed run gets other batches" in caplog.text
    assert warned == (trainer_class is PlainLoader)


def test_own_mapper_loads_meta_batches_as_well(tmp_path, stage_1):
    keys = {"LT_DET__META__ENABLED": True, "LT_DET__META__REGIONS": "forward"}
    train(OwnMapper, stage_2(tmp_path, stage_1, **keys))
    assert len(SEEN) == 8  # 2 iterations, 2 images for each of training and meta batch


def test_own_mapper_fills_a_region_cache_of_its_own(tmp_path, stage_1):
    cache = {"LT_DET__REGION_CACHE__ENABLED": True}
    train(OwnMapper, stage_2(tmp_path, stage_1, **cache))
    assert sorted(SEEN) == list(range(1, 9))
    train(LongTailTrainer, stage_2(tmp_path, stage_1, **cache))
    assert len(list(tmp_path.glob("regions_*"))) == 2
    trainer = PlainLoader(stage_2(tmp_path, stage_1, **cache))
    trainer.resume_or_load(resume=False)
    with pytest.raises(ValueError, match="REGION_CACHE.ENABLED needs to know images and mapper"):
        trainer.train()


def test_own_loader_goes_with_the_meta_step(tmp_path, stage_1, caplog):
    trainer = train(PlainLoader, stage_2(tmp_path, stage_1, LT_DET__META__ENABLED=True))
    assert caplog.text.count("meta batches have Detectron2's mapper") == 1
    assert trainer.meta.reweighter.psi.shape == (NUM_CLASSES,)
    assert not torch.equal(trainer.meta.reweighter.psi, torch.zeros(NUM_CLASSES))


def test_own_evaluator_is_used_in_training_and_by_eval_only(tmp_path):
    cfg = tiny_config(tmp_path, SOLVER__MAX_ITER=1)
    trainer = train(OwnEvaluator, cfg)
    assert trainer._last_eval_results == {"mine": {"images": 8}}
    assert OwnEvaluator.evaluate_checkpoint(cfg, resume=True) == {"mine": {"images": 8}}
