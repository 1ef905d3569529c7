"""Tutorials, run as they are printed: each command in a shell, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```", re.S | re.M)


def run_page(page: Path, folder: Path) -> str:
    """Run the blocks of a page in their order; return what they print."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    printed = ""
    for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "python":
            commands = [[sys.executable, "-c", text]]
        else:
            commands = [
                [sys.executable, "-m", "lt_det", *line.split()[1:]] for line in text.splitlines()
            ]
        for command in commands:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            said = done.stdout[-2000:] + done.stderr[-3000:]
            assert done.returncode == 0, f"{command[3:]}: {said}"
            printed += done.stdout + done.stderr
    return printed


@pytest.mark.slow
def test_own_detection(tmp_path):
    pytest.importorskip("timm", reason="start weights without a download")
    printed = run_page(REPOSITORY / "docs/tutorial/own_detection.md", tmp_path)
    assert "Worst and best classes" in printed
    assert "36 images predicted." in printed
    for name in ("ap_against_frequency.png", "predictions.png"):
        assert (tmp_path / "output/stage2/inference" / name).is_file()
    assert (tmp_path / "data.html").is_file()
    assert len(list((tmp_path / "predictions/pictures").iterdir())) == 36


@pytest.mark.slow
def test_own_images(tmp_path):
    pytest.importorskip("timm", reason="start weights without a download")
    printed = run_page(REPOSITORY / "docs/tutorial/own_images.md", tmp_path)
    assert "16 images predicted." in printed
    assert "mean_class" in printed
    for name in ("stage2", "again"):
        assert (tmp_path / "output" / name / "inference/likelihood.png").is_file()
    for name in ("images.html", "predictions/predictions.csv", "predictions/sheet.png"):
        assert (tmp_path / name).is_file()
