"""The best checkpoint by any result, early stopping, and both in resumed runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from lt_det.engine import best_checkpoint
from lt_det.engine.best_checkpoint import best_of, end_of_run, is_stale
from lt_det.engine.evaluators import check_test_sets
from lt_det.engine.startup.datasets import register_datasets
from lt_det.engine.trainer import LongTailTrainer
from lt_det.tasks import build_class_stats
from tests.engine.tiny import tiny_config


class Scripted(LongTailTrainer):
    """Evaluations give the values of a script, by iterations done."""

    script: dict[int, float] = {}

    def _evaluate(self):
        done = min(self.iter + 1, self.max_iter)
        return {"bbox": {"APr": self.script[done], "AP": -self.script[done]}}


def config(tmp_path, **keys):
    return tiny_config(
        tmp_path,
        LT_DET__BEST_CHECKPOINT="bbox/APr",
        TEST__EVAL_PERIOD=1,
        SOLVER__MAX_ITER=6,
        **keys,
    )


def run(cfg, *, resume=False):
    trainer = Scripted(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def record(cfg):
    with open(f"{cfg.OUTPUT_DIR}/best_checkpoint.json") as file:
        return json.load(file)


def iterations_of(cfg, name):
    return torch.load(f"{cfg.OUTPUT_DIR}/{name}.pth")["iteration"] + 1


def test_the_best_is_kept_and_the_last_is_what_is_resumed(tmp_path):
    cfg = config(tmp_path)
    Scripted.script = {1: 1.0, 2: math.nan, 3: 5.0, 4: 2.0, 5: 3.0, 6: 4.0}
    run(cfg)
    assert iterations_of(cfg, "model_best") == record(cfg)["best"]["iterations"] == 3
    assert iterations_of(cfg, "model_final") == 6
    with open(f"{cfg.OUTPUT_DIR}/last_checkpoint") as file:
        assert file.read() == "model_final.pth"


def test_training_stops_and_a_resumed_run_does_not_go_on(tmp_path):
    cfg = config(tmp_path, LT_DET__EARLY_STOPPING=2)
    Scripted.script = {1: 1.0, 2: 3.0, 3: 3.0, 4: 2.0, 5: 9.0, 6: 9.0}
    run(cfg)
    assert iterations_of(cfg, "model_final") == 4
    # As good is no better for stopping, and the later of two equals is kept.
    assert iterations_of(cfg, "model_best") == 3
    trainer = Scripted(cfg)
    trainer.resume_or_load(resume=True)
    assert (trainer.start_iter, trainer.max_iter) == (4, 4)
    assert end_of_run(cfg, 3) == 6


def test_evaluations_after_the_checkpoint_are_forgotten(tmp_path):
    cfg = config(tmp_path)
    Scripted.script = {1: 1.0, 2: 2.0, 3: 9.0, 4: 1.0, 5: 3.0, 6: 4.0}
    run(cfg)
    (tmp_path / "out" / "last_checkpoint").write_text("model_0000001.pth")
    Scripted.script = {3: 1.0, 4: 1.0, 5: 3.0, 6: 2.5}
    run(cfg, resume=True)
    assert record(cfg)["best"] == {"iterations": 5, "value": 3.0}
    assert iterations_of(cfg, "model_best") == 5
    assert [one["iterations"] for one in record(cfg)["evaluations"]] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"LT_DET__BEST_CHECKPOINT": "bbox/APrr"}, r"'bbox/APrr' is no result.*bbox/APr"),
        ({"LT_DET__BEST_CHECKPOINT": "bbox/AP", "DATASETS__TEST": ()}, "DATASETS.TEST is empty"),
        ({"LT_DET__EARLY_STOPPING": 2}, "set LT_DET.BEST_CHECKPOINT"),
        ({"LT_DET__EARLY_STOPPING": 2, "LT_DET__BEST_CHECKPOINT": "bbox/AP"}, "TEST.EVAL_PERIOD"),
        ({"LT_DET__EARLY_STOPPING": -1}, "EARLY_STOPPING must be at least 0"),
    ],
)
def test_what_would_do_nothing_is_said_at_the_start(tmp_path, keys, message):
    with pytest.raises(ValueError, match=message):
        LongTailTrainer(tiny_config(tmp_path, **keys))


def test_the_lowest_calibration_error_is_the_best():
    values = [(1, 3.0), (2, 1.0), (3, math.nan), (4, 2.0)]
    assert best_of(values, "classification/ece_few") == (2, 1.0)
    assert best_of(values, "classification/few") == (1, 3.0)
    assert is_stale(values, "classification/ece", 2)
    assert not is_stale(values, "classification/ece", 3)
    assert best_checkpoint.read_values("gone.json", "bbox/AP", until=3) == []


@pytest.mark.parametrize("value", [math.nan, -1.0])
def test_a_result_without_a_value_never_stops_the_training(tmp_path, value, caplog):
    cfg = config(tmp_path, LT_DET__EARLY_STOPPING=1)
    cfg.SOLVER.MAX_ITER = 3
    Scripted.script = dict.fromkeys(range(1, 4), value)
    run(cfg)
    assert iterations_of(cfg, "model_final") == 3
    assert record(cfg)["best"] is None
    assert not (tmp_path / "out" / "model_best.pth").exists()
    assert caplog.text.count("'bbox/APr' is ") == 3
    assert not is_stale([(n, value) for n in (1, 2, 3)], "bbox/APr", 1)


GROUPS = {"r": ["owl"], "c": [], "f": ["cat", "dog"]}


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("bbox/APr", "no object of the 1 rare classes"),
        ("segm/APc", "the training set has no common class"),
        ("bbox/APf", ""),
        ("bbox/AP", ""),
        ("bbox/AP-owl", "no object of class 'owl'"),
        ("bbox/AP-cat", ""),
        ("val/bbox/APr", "'val': it has no object"),
        ("other/bbox/APr", ""),
        ("classification/few", "rare classes"),
        ("classification/ece_few", "rare classes"),
        ("classification/many", ""),
    ],
)
def test_a_result_without_an_object_is_said_before_the_training(caplog, metric, said):
    best_checkpoint.warn_once.cache_clear()
    best_checkpoint.warn_if_undefined(metric, "val", {"cat"}, GROUPS)
    assert said in caplog.text
    assert bool(said) == bool(caplog.text)


def test_the_start_looks_for_objects_of_the_groups(tmp_path, caplog):
    best_checkpoint.warn_once.cache_clear()
    cfg = config(tmp_path)
    _, json_file, root = cfg.LT_DET.DATASETS[0]
    content = json.loads(Path(json_file).read_text())
    stats = build_class_stats(cfg)
    rare = [stats.class_names[k] for k in stats.group_members()["r"]]
    ids = {c["id"] for c in content["categories"] if c["name"] in rare}
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] not in ids]
    (tmp_path / "test.json").write_text(json.dumps(content))
    cfg.LT_DET.DATASETS = [
        *cfg.LT_DET.DATASETS,
        ["val_of_groups", str(tmp_path / "test.json"), root],
    ]
    cfg.DATASETS.TEST = ("val_of_groups",)
    register_datasets(cfg)
    try:
        check_test_sets(cfg, class_names=stats.class_names)
    finally:
        DatasetCatalog.remove("val_of_groups")
        MetadataCatalog.remove("val_of_groups")
    assert f"no object of the {len(rare)} rare classes" in caplog.text
