"""Time and peak memory of post-processing, against Detectron2."""

from __future__ import annotations

import post_processing
from timing import Row, median_ms, peak_growth_mb

from gpu_check import detections
from gpu_check.device import SMALL
from gpu_check.results import Results

REPEATS = 1 if SMALL else 15


def run(results: Results, seconds: float) -> None:  # noqa: ARG001
    detections.set_up()
    for name in detections.cases():
        sides = post_processing.build(name)
        post_processing.check(sides)
        del sides["check"]
        times = median_ms(sides, repeats=REPEATS)
        results.row(Row(name, times["stock"], times["ours"], "ms"))
        peaks = {side: max(peak_growth_mb(call), 0.1) for side, call in sides.items()}
        results.row(Row(f"memory: {name}", peaks["stock"], peaks["ours"], "MB"))
