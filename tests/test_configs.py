"""Every config loads, builds a model with our heads, and says how it is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from detectron2.modeling import build_model

from lt_det.config import add_lt_det_config
from lt_det.engine.setup import load_config
from lt_det.modeling.roi_heads import box_predictors

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))
DEMO = sorted((REPOSITORY / "configs" / "demo").glob("*.yaml"))
ROI_CONFIGS = [c for c in [*CONFIGS, *DEMO] if "retinanet" not in c.name]


def name(path: Path) -> str:
    return path.relative_to(REPOSITORY / "configs").as_posix()


@pytest.mark.parametrize("path", ROI_CONFIGS, ids=name)
def test_builds_a_model(path):
    cfg = load_config(str(path), ["MODEL.DEVICE", "cpu"])
    model = build_model(cfg)
    predictors = list(box_predictors(model))
    assert len(predictors) == (3 if "cascade" in path.name else 1)
    for predictor in predictors:
        num_classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
        extra = 1 if predictor.kind == "softmax" else 0
        assert predictor.cls_score.out_features == num_classes + extra
    # A second stage says so, and waits for its weights.
    second = any(word in path.name for word in ("balms", "balanced", "finetune"))
    assert second == cfg.LT_DET.DECOUPLED
    assert ("balms" in path.name) == cfg.LT_DET.META.ENABLED


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_first_line_is_the_command(path):
    first = path.read_text().splitlines()[0]
    assert f"configs/{path.name}" in first
    assert "tools/train_net.py" in first
    for other in re.findall(r"configs/([\w.]+\.yaml)", path.read_text()):
        assert (REPOSITORY / "configs" / other).is_file(), other


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_output_folder_is_the_config_s_own(path):
    assert f"output/{path.stem}" == load_config(str(path)).OUTPUT_DIR


def test_configs_named_in_the_readme_exist():
    readme = (REPOSITORY / "README.md").read_text()
    for path in re.findall(r"configs/[\w./]+\.yaml", readme):
        assert (REPOSITORY / path).is_file(), path
    for stem in re.findall(r"`((?:lvis|coco)_[\w.]+_[\w.]*\*?)`", readme):
        if not list((REPOSITORY / "configs").glob(f"{stem}.yaml")):
            assert "Evaluator" in stem or stem.startswith("lvis_v1"), stem


def test_presets_of_the_meta_step_differ_as_documented():
    paper, release = (
        yaml.safe_load((REPOSITORY / f"configs/_base_/meta_{n}.yaml").read_text())["LT_DET"]["META"]
        for n in ("paper", "release")
    )
    assert (paper["LR"], paper["LOSS"], paper["INNER_STEP"]) == (0.001, "plain", "sgd")
    assert (release["LR"], release["LOSS"], release["INNER_STEP"]) == (
        0.01,
        "balanced",
        "optimizer",
    )


def test_adding_the_keys_twice_changes_nothing():
    cfg = load_config("", ["LT_DET.LOSS", "balanced_softmax", "LT_DET.PRIOR_PROB", "0.01"])
    before = cfg.dump()
    add_lt_det_config(cfg)
    assert cfg.dump() == before


def test_defaults_are_those_of_the_signatures():
    node = load_config("").LT_DET
    assert node.LOSS == "softmax_ce"
    assert node.LOSS_PARAMS.BALANCED_SOFTMAX.TAU == 1.0
    assert node.LOSS_PARAMS.BALANCED_SIGMOID.KEEP_CONSTANT is False
    assert node.PRIOR_PROB == 0.001
    assert (node.META.LR, list(node.META.BETAS), node.META.INNER_STEP) == (
        0.001,
        [0.9, 0.999],
        "sgd",
    )
