"""Bars of the classes that gained and lost."""

from __future__ import annotations

import re

import pytest

from lt_det.report.run_page.classes import gains_and_losses
from lt_det.report.run_page.material import gather
from lt_det.report.run_page.methods import methods_of
from lt_det.report.run_page.recorded_config import RecordedConfig
from lt_det.report.run_page.run_folder import Evaluated, RunFolder
from lt_det.report.run_page.training_facts import TrainingFacts


def test_bars_of_gains_and_losses_have_one_scale():
    runs = []
    for name, figures in {"a": (10, 10, 10), "b": (30, 6, 10), "c": (11, 8, 9)}.items():
        records = [{"name": f"class{k}", "AP": float(v)} for k, v in enumerate(figures)]
        results = {"bbox": Evaluated({"AP": 1.0}, records, "x")}
        run = RunFolder(name, None, results, RecordedConfig({}), {}, None, [], None, "")
        runs.append((name, run))
    facts = {run.folder: TrainingFacts(None, None, None, "") for _, run in runs}
    section = gains_and_losses(gather(methods_of(runs), facts))
    text = "".join(map(str, section.charts))
    found = re.findall(r"width='([\d.]+)'[^>]*><title>[^:]*: ([+-][\d.]+) points", text)
    assert [float(points) for _, points in found] == [20.0, -4.0, 1.0, -2.0, -1.0]
    scales = [float(width) / abs(float(points)) for width, points in found]
    assert scales == pytest.approx([scales[0]] * len(scales), rel=0.02)
