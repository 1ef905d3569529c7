"""Time and peak memory of a whole training step, against Detectron2."""

from __future__ import annotations

from overhead import FEW, MANY
from timing import Row, median_ms, peak_growth_mb

from gpu_check import steps
from gpu_check.device import SMALL
from gpu_check.results import Results

REPEATS = 1 if SMALL else 15


def run(results: Results, seconds: float) -> None:  # noqa: ARG001
    steps.set_up()
    for one in steps.COMPARISONS:
        for num_classes in (FEW,) if SMALL else (FEW, MANY):
            sides = {"stock": one.stock_step(num_classes), **dict(one.our_steps(num_classes))}
            times = median_ms(sides, repeats=REPEATS)
            peaks = {name: max(peak_growth_mb(step), 0.1) for name, step in sides.items()}
            for loss in one.losses:
                name = f"{one.what}, {num_classes:,} classes, {loss}"
                results.row(Row(name, times["stock"], times[loss], "ms", target=one.target))
                results.row(Row(f"memory: {name}", peaks["stock"], peaks[loss], "MB"))
