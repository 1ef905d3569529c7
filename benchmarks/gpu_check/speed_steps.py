"""Time and peak memory of a whole training step, against Detectron2."""

from __future__ import annotations

import overhead
from timing import Row, median_ms, peak_growth_mb

from gpu_check.device import SMALL
from gpu_check.results import Results

REPEATS = 1 if SMALL else 15


def run(results: Results, seconds: float) -> None:  # noqa: ARG001
    if SMALL:
        overhead.SIDE = 64
    else:
        overhead.SIDE = 640
    for what, stock, ours, target in overhead.COMPARISONS:
        for num_classes in (overhead.FEW,) if SMALL else (overhead.FEW, overhead.MANY):
            steps = {"stock": overhead.stepper(num_classes, stock)}
            for loss, options in ours.items():
                steps[loss] = overhead.stepper(num_classes, {**options, "LT_DET.LOSS": loss})
            times = median_ms(steps, repeats=REPEATS)
            peaks = {name: max(peak_growth_mb(step), 0.1) for name, step in steps.items()}
            for loss in ours:
                name = f"{what}, {num_classes:,} classes, {loss}"
                results.row(Row(name, times["stock"], times[loss], "ms", target=target))
                results.row(Row(f"memory: {name}", peaks["stock"], peaks[loss], "MB"))
