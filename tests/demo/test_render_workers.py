"""Rendering where worker processes cannot start, as from a script on standard input."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

SCRIPT = """
from demo.build import build_emoji_scenes
scenes = build_emoji_scenes(
    "cache", num_classes=4, image_counts=(1, 2, 3, 4), image_size=64,
    mean_classes_per_image=2, num_val_images=4, num_workers=2,
)
print(len(list((scenes.root / "train").iterdir())))
"""


def test_a_script_without_a_main_module_still_gets_its_set(demo_packages, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-"],
        input=SCRIPT,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["5"]
    assert "rendering in one process" in done.stderr
