"""Trainings on scikit-learn's digits: seconds, on real images that pip ships."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.config import CfgNode

from lt_det.engine.startup.setup import load_config

CONFIG = Path(__file__).resolve().parents[2] / "configs/classification/digits_lt_ce.yaml"


def digits_config(folder: Path, *opts: object) -> CfgNode:
    """Return the config of the digits, long-tailed by 20, with KEY, VALUE, ... options."""
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    output = folder / "out"
    output.mkdir(parents=True, exist_ok=True)
    standard = ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(output), "LT_DET.PROGRESS_BAR", False]
    standard += ["LT_DET.EVAL.PICTURES", False]  # a second each
    return load_config(str(CONFIG), [*standard, *opts])
