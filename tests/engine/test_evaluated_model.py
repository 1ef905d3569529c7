"""What --eval-only evaluates, with which groups, and what results.json says about it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from lt_det.data.annotations.datasets import register_lvis_format
from lt_det.data.stats.class_stats import ClassStats
from lt_det.engine import evaluators
from lt_det.engine.checkpoint import ClassStatsState, LongTailCheckpointer
from lt_det.engine.evaluated_model import load_evaluated_model
from lt_det.engine.trainer import LongTailTrainer
from lt_det.modeling.roi.roi_heads import box_predictors
from tests.engine.tiny import tiny_config, write_tiny_lvis
from tests.modeling.small_models import small_batch, small_config, small_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder, checkpoint and records of a training that evaluates twice, after 1 and 2 of 2."""
    folder = tmp_path_factory.mktemp("trained")
    cfg = tiny_config(folder, SOLVER__MAX_ITER=2, SOLVER__CHECKPOINT_PERIOD=1, TEST__EVAL_PERIOD=1)
    records = []

    class Trainer(LongTailTrainer):
        @classmethod
        def test(cls, cfg, model, evaluators=None):
            results = super().test(cfg, model, evaluators)
            records.append(os.path.exists(f"{cfg.OUTPUT_DIR}/results.json") and record(cfg))
            return results

    counted = []
    count = evaluators.build_class_stats
    evaluators.build_class_stats = lambda cfg: counted.append(1) or count(cfg)
    try:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()
    finally:
        evaluators.build_class_stats = count
    assert not counted  # the trainer knows them
    return folder, os.path.join(cfg.OUTPUT_DIR, "model_final.pth"), records


def test_another_model_leaves_the_record_of_the_run(trained):
    """A copy with averaged weights, or a wrapper for augmentation at test time."""
    folder, _, _ = trained
    cfg = tiny_config(folder)
    before = record(cfg)
    results = LongTailTrainer.test(cfg, small_model(cfg).eval())
    assert "AP" in results["bbox"]
    assert record(cfg) == before


def test_keypoints_have_the_sigmas_of_the_config(tmp_path):
    cfg = tiny_config(tmp_path, TEST__KEYPOINT_OKS_SIGMAS=[0.1, 0.2, 0.3])
    (name,) = cfg.DATASETS.TEST
    MetadataCatalog.get(name).__dict__["evaluator_type"] = "coco"
    evaluator = evaluators.build_evaluator(cfg, name)
    assert list(evaluator._kpt_oks_sigmas) == [0.1, 0.2, 0.3]


def record(cfg) -> dict:
    return json.loads((Path(cfg.OUTPUT_DIR) / "results.json").read_text())


def groups(folder) -> list[str]:
    content = json.loads((Path(folder) / "per_category_bbox.json").read_text())
    return [category["group"] for category in content["categories"]]


def evaluation(trained, name, **keys):
    folder, weights, _ = trained
    keys = {"MODEL__WEIGHTS": weights, "OUTPUT_DIR": str(folder / name), **keys}
    return tiny_config(folder, **keys)


def test_record_says_what_was_evaluated(trained):
    _, weights, (first, last) = trained
    assert not first  # the training went on
    assert (last["iterations"], last["weights"]) == (2, weights)

    middle = weights.replace("model_final", "model_0000000")
    cfg = evaluation(trained, "middle", MODEL__WEIGHTS=middle, SOLVER__MAX_ITER=90)
    LongTailTrainer.evaluate_checkpoint(cfg)
    assert (record(cfg)["iterations"], record(cfg)["weights"]) == (1, middle)


def test_limits_of_the_groups_are_the_config_s(trained):
    """The checkpoint was trained with 10 and 100, by which all classes of 8 images are rare."""
    cfg = evaluation(
        trained, "limits", LT_DET__CLASS_STATS__RARE_MAX=1, LT_DET__CLASS_STATS__COMMON_MAX=4
    )
    LongTailTrainer.evaluate_checkpoint(cfg)
    found = groups(os.path.join(cfg.OUTPUT_DIR, "inference"))
    assert found[0] == "f"  # in all 8 images
    assert set(found) == {"r", "c", "f"}


def test_without_weights_nothing_is_evaluated(trained):
    cfg = evaluation(trained, "none", MODEL__WEIGHTS="")
    for resume in (False, True):
        with pytest.raises(ValueError, match=r"nothing to evaluate: set MODEL.WEIGHTS"):
            LongTailTrainer.evaluate_checkpoint(cfg, resume=resume)


def test_without_a_training_set_the_checkpoint_s_counts_serve(trained, caplog):
    cfg = evaluation(trained, "no_train", DATASETS__TRAIN=())
    LongTailTrainer.evaluate_checkpoint(cfg)
    assert set(groups(os.path.join(cfg.OUTPUT_DIR, "inference"))) == {"r"}
    # Nor does one without counts need it.
    evaluators.build_evaluator(cfg, cfg.DATASETS.TEST[0])
    assert "groups are not those of the training set: DATASETS.TRAIN is empty" in caplog.text


def test_every_test_set_has_files_of_its_own(trained):
    folder, _, _ = trained
    json_file, root = write_tiny_lvis(folder)
    name = f"second_{abs(hash(str(folder)))}"
    if name not in DatasetCatalog.list():
        register_lvis_format(name, json_file, root)
    cfg = evaluation(trained, "several")
    cfg.DATASETS.TEST = (*cfg.DATASETS.TEST, name)
    LongTailTrainer.evaluate_checkpoint(cfg)
    inference = Path(cfg.OUTPUT_DIR) / "inference"
    for test_set in cfg.DATASETS.TEST:
        content = json.loads((inference / test_set / "per_category_bbox.json").read_text())
        assert content["dataset"] == test_set
    assert sorted(p.name for p in inference.iterdir()) == sorted(cfg.DATASETS.TEST)


@pytest.mark.parametrize("loss", ["bags", "iif"])
def test_scores_that_need_class_counts_take_those_of_the_checkpoint(tmp_path, loss):
    """So a model predicts where its training set is not."""
    stats = ClassStats(
        "a", tuple("abcdef"), (9, 5, 3, 2, 1, 1), (20, 5, 3, 2, 1, 1), 12, "annotations"
    )
    cfg = small_config(LT_DET__LOSS=loss, DATASETS__TRAIN=(), OUTPUT_DIR=str(tmp_path))
    model = small_model(cfg)
    state = ClassStatsState(stats)
    LongTailCheckpointer(model, str(tmp_path), class_stats=state).save("model_final")
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    again = small_model(cfg)
    load_evaluated_model(cfg, again, resume=False)
    (head,) = box_predictors(again)
    assert head.criterion.class_counts.tolist() == [9, 5, 3, 2, 1, 1]
    assert head.criterion.num_images == 12
    with torch.no_grad():
        assert len(again.eval()(small_batch())) == len(small_batch())
    # Bare weights say nothing of them: the training set must be there, and is looked for now.
    torch.save({"model": model.state_dict()}, tmp_path / "bare.pth")
    cfg.MODEL.WEIGHTS = str(tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="DATASETS.TRAIN"):
        load_evaluated_model(cfg, small_model(cfg), resume=False)
