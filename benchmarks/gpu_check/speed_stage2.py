"""Time of a second-stage iteration: plain, BALMS, the released scheme, from cached regions."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import stage2

from gpu_check.device import SMALL
from gpu_check.results import Results

#: One run of ten iterations a side: more would not end within the part's time.
REPEATS, ITERATIONS = 1, 2 if SMALL else 10


def run(results: Results, seconds: float) -> None:  # noqa: ARG001
    keys: dict[str, Any] = {}
    if SMALL:
        stage2.NUM_IMAGES, stage2.HEIGHT, stage2.WIDTH = 2, 96, 96
        keys = {
            "MODEL__ROI_HEADS__BATCH_SIZE_PER_IMAGE": 16,
            "MODEL__RPN__POST_NMS_TOPK_TRAIN": 32,
            "LT_DET__META__BANK_IMAGES": 2,
        }
    with tempfile.TemporaryDirectory() as name:
        os.environ["LT_DET_CACHE"] = str(Path(name) / "cache")
        sizes = {"repeats": REPEATS, "iterations": ITERATIONS}
        for found in stage2.measure(Path(name), **sizes, peaks=True, **keys):
            if isinstance(found, str):
                results.note(found)
            else:
                results.row(found)
