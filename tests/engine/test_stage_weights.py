"""The checkpoint that the next stage starts from: the best where a stage asks for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_det.engine.stages import run_stages
from lt_det.engine.startup.setup import argument_parser


@pytest.mark.parametrize(
    ("best", "there", "expected"),
    [("", True, "model_final"), ("bbox/AP", True, "model_best"), ("bbox/AP", False, "model_final")],
)
def test_the_next_stage_starts_from_the_best(tmp_path, monkeypatch, best, there, expected):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path(f"{name}.yaml").write_text(
            f'OUTPUT_DIR: here://{name}\nLT_DET: {{BEST_CHECKPOINT: "{best}"}}\n'
        )
    args = argument_parser().parse_args(["--stages", "a.yaml", "b.yaml"])
    seen = []

    def run(stage):
        options = dict(zip(stage.opts[::2], stage.opts[1::2]))
        seen.append(options.get("MODEL.WEIGHTS"))
        folder = Path(options["OUTPUT_DIR"])
        folder.mkdir()
        for weights in ("model_final", *["model_best"] * there):
            (folder / f"{weights}.pth").touch()

    run_stages(args, run)
    assert seen == [None, str(tmp_path / "a" / f"{expected}.pth")]
