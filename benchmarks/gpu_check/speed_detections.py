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
    # Of most classes last, and once: Detectron2 calls NMS for each class. The other rows are kept.
    most = f" {detections.CLASSES[-1]:,} classes"
    for name in sorted(detections.cases(), key=lambda name: most in name):
        sides = post_processing.build(name)
        once = most in name
        if once:
            sides["ours"]()
        else:
            post_processing.check(sides)
        del sides["check"]
        times = median_ms(sides, repeats=1 if once else REPEATS, warm_up=0 if once else 1)
        note = "one run" if once else ""
        results.row(Row(name, times["stock"], times["ours"], "ms", note=note))
        peaks = {side: max(peak_growth_mb(call), 0.1) for side, call in sides.items()}
        results.row(Row(f"memory: {name}", peaks["stock"], peaks["ours"], "MB"))
