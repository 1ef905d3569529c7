"""A named pipe in the place of a file is said to be one, at once, by every command."""

from __future__ import annotations

import json
import os

import pytest

from lt_det.cli.commands import main
from lt_det.config_files import find_config
from lt_det.engine.best_checkpoint import read_values
from lt_det.engine.prediction.trained_model import find_trained_run
from lt_det.engine.run import _is_evaluated
from lt_det.engine.startup.setup import load_config
from lt_det.experiments.kept_runs import is_finished

SAID = "is a named pipe: expected a regular file; save what it gives to one first"


@pytest.fixture
def pipe(tmp_path, monkeypatch):
    """Make pipes of all endings beside a good json, and return the name without an ending."""
    monkeypatch.chdir(tmp_path)
    for ending in ("", ".json", ".yaml", ".pth", ".txt", ".csv"):
        os.mkfifo(f"pipe{ending}")
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25}
        ],
        "categories": [{"id": 1, "name": "x"}],
    }
    (tmp_path / "good.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text("[]")
    (tmp_path / "run" / "inference").mkdir(parents=True)
    os.mkfifo("run/inference/matches_bbox.npz")
    return "pipe"


@pytest.mark.parametrize(
    "words",
    [
        "check-data --train pipe.json",
        "check-data --train pipe.csv",
        "check-data --config-file pipe.yaml",
        "new-project --train pipe.json --output out",
        "new-project --train pipe.csv --output out",
        "class-stats --json pipe.json",
        "evaluate pipe.json found.json",
        "evaluate good.json pipe.json",
        "evaluate good.json found.json --train-json pipe.json",
        "compare pipe run",
        "compare run run",
        "report run --ground-truth pipe.json",
        "report run --train-json pipe.json",
        "predict --weights pipe.pth --output out good.json",
        "train --config-file pipe.yaml",
        "balance --config-file pipe.yaml --plan",
        "sweep --config-file pipe.yaml --output out",
        "posthoc-sweep --config-file demo/stage1.yaml --weights pipe.pth",
        "posthoc-sweep --config-file demo/stage1.yaml --weights good.json --logn pipe.json",
    ],
)
def test_every_command_says_it(pipe, capsys, words):
    assert main(words.split()) == 1
    said = capsys.readouterr()
    lines = [one for one in (said.out + said.err).splitlines() if pipe in one or "npz" in one]
    assert any("is a named pipe: expected a regular file" in line for line in lines), said
    assert not os.path.exists("out")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["MODEL.WEIGHTS", "pipe.pth"], "pipe.pth"),
        (["LT_DET.START_CLASSES", "pipe.txt"], "pipe.txt"),
        (["LT_DET.START_CLASSES", "pipe.json"], "pipe.json"),
        (["LT_DET.TIMM.WEIGHTS", "pipe.pth"], "pipe.pth"),
        (["LT_DET.POST_HOC.LOGN", "pipe.json"], "pipe.json"),
    ],
)
def test_the_files_of_a_config_say_it(pipe, options, name):
    from torch import nn

    from lt_det.engine.checkpoint import LongTailCheckpointer
    from lt_det.engine.start_classes import build_start_classes
    from lt_det.modeling.backbones.timm_backbone import _read_weights
    from lt_det.modeling.classifiers.build_posthoc import read_logit_moments

    cfg = load_config("", options)
    read = {
        "MODEL.WEIGHTS": lambda: LongTailCheckpointer(nn.Linear(1, 1)).load(cfg.MODEL.WEIGHTS),
        "LT_DET.START_CLASSES": lambda: build_start_classes(cfg, ["x"]),
        "LT_DET.TIMM.WEIGHTS": lambda: _read_weights(cfg.LT_DET.TIMM.WEIGHTS, name="resnet18"),
        "LT_DET.POST_HOC.LOGN": lambda: read_logit_moments(cfg.LT_DET.POST_HOC.LOGN),
    }[options[0]]
    with pytest.raises(ValueError, match=f"{name} {SAID}"):
        read()


def test_what_a_run_has_left_stops_nothing(pipe, tmp_path):
    for name in ("last_checkpoint", "results.json", "best_checkpoint.json"):
        os.mkfifo(tmp_path / "run" / name)
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        find_trained_run("run")
    cfg = load_config("", ["OUTPUT_DIR", "run"])
    cfg.DATASETS.TEST = ("a",)
    assert not _is_evaluated(cfg, 1)
    assert read_values("run/best_checkpoint.json", "bbox/AP", until=1) == []
    with pytest.raises(ValueError, match="results.json is a named pipe"):
        is_finished(tmp_path / "run")


def test_a_folder_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").mkdir()
    with pytest.raises(ValueError, match=r"x.yaml is a folder: expected a regular file"):
        find_config("x.yaml")
    # A config that comes with the package, and a folder of its name.
    (tmp_path / "lvis_balms_r50.yaml").mkdir()
    assert find_config("lvis_balms_r50.yaml") != "lvis_balms_r50.yaml"
