"""The scripts of examples/patch: patched, one step, the same keys, unpatched as before."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import run_python

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(p for p in (ROOT / "examples/patch").glob("*.py") if p.stem != "one_step")


def test_there_is_one_for_each_kind_of_model():
    names = {script.stem for script in SCRIPTS}
    assert names == {
        "foreign_predictor",
        "lazy_new_baselines",
        "point_rend",
        "retinanet",
        "zoo_mask_rcnn",
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_runs(script):
    if script.stem == "point_rend":
        pytest.importorskip("detectron2.projects.point_rend")
    result = run_python(script)
    if "not available in Model Zoo" in result.stderr:
        pytest.skip("this Detectron2 came without the configs of its model zoo")
    assert result.returncode == 0, result.stderr
    assert "patched" in result.stdout
