"""Recipes: what they say for small, steep, large, maskless data and for image folders."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from lt_det.cli.commands import main
from lt_det.data.sampling.repeat_threshold import repetition
from lt_det.data.stats.class_stats import ClassStats
from lt_det.engine.startup.config_checks import check_config
from lt_det.engine.startup.setup import load_config, read_config
from lt_det.projects.detection_recipe import detection_recipe
from lt_det.projects.facts import DetectionFacts, Files
from lt_det.projects.machine import Machine
from lt_det.projects.recipe import Recipe
from lt_det.projects.schedule import budget_text, plan, schedule_settings, seconds_of
from lt_det.projects.start_weights import detector_weights
from lt_det.projects.tail import group_limits
from lt_det.projects.yaml_file import yaml_text

CPU = Machine("cpu", 2)
GPU = Machine("cuda", 16, gpu_gib=24.0, name="GPU")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("lt_det.projects.start_weights.answers", lambda _: False)


def recipe(counts, *, images, masks=True, federated=False, machine=CPU, online=False) -> Recipe:
    stats = ClassStats(
        "train",
        tuple(f"c{k}" for k in range(len(counts))),
        tuple(counts),
        tuple(counts),
        images,
        "annotations",
    )
    kind = "polygon" if masks else "none"
    files = (Files("data/train.json", "data/images"),)
    facts = DetectionFacts(
        files, files, stats, max(1, images // 4), kind, kind, 480.0, 1.33, 60.0, federated
    )
    return detection_recipe(
        facts,
        machine,
        detector_weights(machine, masks=masks, can_be_had=lambda _: online),
        seconds=3600.0,
        folder="project",
        draws=lambda _: 1.3 * images,
        masks=masks,
        masks_reason="every object has a mask",
    )


CASES = {
    "few": ([20, 12, 9, 5, 3, 2], 24, {}),
    "steep": ([3000, 26, 8, 4], 3000, {}),
    "lvis": ([max(1, int(50000 / (k + 1) ** 1.4)) for k in range(1203)], 100000,
             {"federated": True, "machine": GPU, "online": True}),
    "boxes": ([40, 20, 5], 60, {"masks": False}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_value_is_a_key_of_the_right_type_with_a_reason(case, tmp_path):
    counts, images, more = CASES[case]
    made = recipe(counts, images=images, **more)
    assert len(made.stages) == 2
    for stage in made.stages:
        assert all(setting.reason for setting in stage.settings)
        (tmp_path / f"{stage.name}.yaml").write_text(yaml_text(stage))
    for stage in made.stages:
        cfg = read_config(str(tmp_path / f"{stage.name}.yaml"))
        for setting in stage.settings:
            node = cfg
            for part in setting.key.split("."):
                node = node[part]
            if setting.key != "LT_DET.DATASETS" and "here://" not in str(setting.value):
                found = list(node) if isinstance(node, tuple) else node
                assert found == setting.value, setting.key
        assert str(tmp_path / "output" / stage.name) == cfg.OUTPUT_DIR
        if cfg.MODEL.DEVICE == "cpu":
            check_config(cfg)
    assert str(tmp_path / "output" / "stage1" / "model_best.pth") == cfg.MODEL.WEIGHTS


def test_few_images_get_thirds_and_repetition():
    first, second = recipe(*CASES["few"][:1], images=24).stages
    assert (first.value("LT_DET.CLASS_STATS.RARE_MAX"), first.value("MODEL.DEVICE")) == (3, "cpu")
    assert first.value("DATALOADER.REPEAT_THRESHOLD") > 2 / 24
    assert second.value("LT_DET.LOSS") == "balanced_softmax"
    assert first.value("SOLVER.MAX_ITER") * 2 <= 150 * 1.3 * 24
    gpu, _ = recipe(*CASES["few"][:1], images=24, machine=GPU).stages
    assert gpu.value("SOLVER.IMS_PER_BATCH") == 3  # an eighth of the images
    large, _ = recipe([900, 30, 9], images=1000, machine=GPU).stages
    assert large.value("SOLVER.IMS_PER_BATCH") == 16


def test_lvis_threshold_is_for_data_of_lvis_size():
    counts = [max(1, int(600 / (k + 1) ** 1.4)) for k in range(1203)]
    assert repetition(counts, images=1500).threshold == pytest.approx(
        math.sqrt(600 / 1500 / 1500), rel=0.05
    )


def test_short_trainings_are_not_evaluated_every_third_step():
    keys = {"epoch": 55.0, "seconds_per_image": 0.01, "val_images": 12, "seconds": 3600}
    schedule = plan(batch=55, most_epochs=30, **keys)
    assert (schedule.max_iter, schedule.eval_period) == (30, 30)
    settings = {
        one.key: one.value
        for one in schedule_settings(schedule, metric="", batch=55, rate=0.1, rate_reason="")
    }
    assert settings["SOLVER.CHECKPOINT_PERIOD"] == 20
    tiny = plan(batch=55, most_epochs=3, **keys)
    assert tiny.max_iter == 20
    assert "the fewest that show whether it runs" in tiny.reason


def test_a_steep_tail_keeps_lvis_limits():
    first, _ = recipe(*CASES["steep"][:1], images=3000).stages
    assert first.value("LT_DET.CLASS_STATS.RARE_MAX") == 10
    assert first.value("DATALOADER.REPEAT_THRESHOLD") == pytest.approx(
        math.sqrt(4 / 3000), rel=0.05
    )


def test_many_classes_are_for_sigmoid_and_start_from_coco():
    counts, images, more = CASES["lvis"]
    first, second = recipe(counts, images=images, **more).stages
    assert (first.value("LT_DET.LOSS"), second.value("LT_DET.LOSS")) == (
        "sigmoid_ce",
        "balanced_sigmoid",
    )
    assert first.value("DATALOADER.REPEAT_THRESHOLD") == 0.001
    assert first.value("MODEL.WEIGHTS").startswith("detectron2://COCO-InstanceSegmentation/")
    assert first.value("LT_DET.START_CLASSES") == "coco_2017_val"
    assert first.value("SOLVER.BASE_LR") == 0.00125 * first.value("SOLVER.IMS_PER_BATCH")
    assert first.value("TEST.DETECTIONS_PER_IMAGE") == 300


def test_boxes_only_train_no_masks():
    first, _ = recipe(*CASES["boxes"][:1], images=60, masks=False).stages
    assert first.value("MODEL.MASK_ON") is False
    assert first.value("LT_DET.BEST_CHECKPOINT") == "bbox/AP"
    assert "INPUT.MASK_FORMAT" not in {setting.key for setting in first.settings}


def test_balanced_classes_have_one_stage():
    (only,) = recipe([20, 18, 15], images=40).stages
    assert only.value("DATALOADER.SAMPLER_TRAIN") == "TrainingSampler"
    assert repetition([20, 18, 15], images=40).threshold == 0.0


def test_no_weights_are_said_loudly(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    found = detector_weights(CPU, masks=True, can_be_had=lambda _: False)
    assert found.kind == "random"
    assert "RANDOM" in found.reason


@pytest.mark.parametrize(
    ("counts", "limits"),
    [([5, 50, 500], (10, 100)), ([1, 2, 3, 4, 5, 6], (2, 4)), ([7, 7], (10, 100))],
)
def test_limits_leave_no_group_empty_where_they_can(counts, limits):
    found = group_limits(counts)
    assert (found.rare_max, found.common_max) == limits


def test_the_budget_bounds_the_iterations():
    keys = {"epoch": 1000.0, "batch": 4, "seconds_per_image": 0.5, "val_images": 100}
    short = plan(seconds=3600, most_epochs=100, **keys)
    assert short.limited_by == "time"
    assert 0.8 * 3600 < short.max_iter * 4 * 0.5 < 3600
    assert plan(seconds=3600, most_epochs=2, **keys).max_iter == 500
    assert 0 < short.eval_period <= short.max_iter


@pytest.mark.parametrize(("text", "seconds"), [("1h", 3600), ("1h30m", 5400), ("1.5h", 5400)])
def test_budgets_are_times(text, seconds):
    assert seconds_of(text) == seconds
    assert budget_text(seconds) == {3600: "60 minutes", 5400: "90 minutes"}[seconds]


@pytest.mark.parametrize("text", ["", "1", "an hour", "5s", "-1h", "1h 30"])
def test_other_budgets_are_refused(text):
    with pytest.raises(ValueError, match="--budget must be"):
        seconds_of(text)


def write_images(root: Path, counts: dict[str, int]) -> None:
    for name, number in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(number):
            pixels = np.full((40, 48, 3), 20 * i, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")


def test_an_image_folder_with_splits(tmp_path, capsys):
    write_images(tmp_path / "photos" / "train", {"a": 9, "b": 4, "c": 2})
    write_images(tmp_path / "photos" / "val", {"a": 2, "c": 1})
    out = tmp_path / "project"
    assert main(["new-project", "--train", str(tmp_path / "photos"), "--output", str(out)]) == 0
    assert "lt-det train --stages" in capsys.readouterr().out
    cfg = load_config(str(out / "stage2.yaml"), ["MODEL.DEVICE", "cpu"])
    (train, val) = cfg.LT_DET.CLASSIFICATION.DATASETS
    assert (train[2], val[3]) == (str(tmp_path / "photos"), "val")
    assert cfg.LT_DET.LOSS == "balanced_softmax"
    assert cfg.LT_DET.TIMM.WEIGHTS in ("lite0-pip", "")
    # Without, a toy diverged from 92 % to the most frequent class.
    assert cfg.SOLVER.CLIP_GRADIENTS.ENABLED
    assert cfg.SOLVER.IMS_PER_BATCH == 8
    assert pytest.approx(0.005 / 64 * 8, rel=0.01) == cfg.SOLVER.BASE_LR
    (tmp_path / "photos" / "train" / "a" / "0.png").write_bytes(b"no image")
    words = ["new-project", "--train", str(tmp_path / "photos"), "--output", str(tmp_path / "x")]
    assert main(words) == 1
    assert "0.png" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_csv_without_validation_holds_images_out(tmp_path):
    write_images(tmp_path, {"a": 6, "b": 2})
    rows = [f"{name}/{i}.png,{name}" for name, n in (("a", 6), ("b", 2)) for i in range(n)]
    (tmp_path / "all.csv").write_text("\n".join(["path,label", *rows]))
    out = tmp_path / "project"
    assert main(["new-project", "--train", str(tmp_path / "all.csv"), "--output", str(out)]) == 0
    content = yaml.safe_load((out / "stage1.yaml").read_text())
    assert content["LT_DET"]["CLASSIFICATION"]["HELD_OUT"] == 0.2
    assert content["DATASETS"]["TEST"] == ["project_train_held_out"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train", "gone.json"], "there is no json 'gone.json'"),
        (["--train", "gone.csv"], "'gone.csv' does not exist"),
        (["--train", "boxes.json", "--task", "segmentation"], "--task segmentation, but not all"),
        (["--train", "boxes.json", "--budget", "soon"], "--budget must be"),
        (["--train", "boxes.json", "--output", "."], "not empty: name another folder"),
        (["--train", "broken.json"], "Nothing was written. See all: lt-det check-data --train"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "images" / "1.png")
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 40, "height": 40}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81}
        ],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    (tmp_path / "broken.json").write_text("{")
    monkeypatch.setenv("LT_DET_DEBUG", "0")
    assert main(["new-project", "--output", "project", *words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "project").exists()
