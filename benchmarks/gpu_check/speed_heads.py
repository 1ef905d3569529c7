"""Time and peak memory of mask head and box predictor, against Detectron2."""

from __future__ import annotations

import heads
from timing import Row, peak_growth_mb

from gpu_check.device import DEVICE, SMALL
from gpu_check.results import Results

REPEATS = 1 if SMALL else 15


def run(results: Results, seconds: float) -> None:  # noqa: ARG001
    heads.DEVICE, heads.REPEATS = DEVICE, REPEATS
    if SMALL:
        heads.MASK_REGIONS, heads.BOX_REGIONS, heads.BOX_FEATURES = 4, 32, 32
        heads.FOREGROUND = 8
    for case in heads.TIMES:
        results.row(heads.time_row(*case))
    for what, ours, stock, target in heads.PEAKS:
        sides = [heads.SIDES[what](False, stock), heads.SIDES[what](True, ours)]
        peaks = [max(peak_growth_mb(side), 0.1) for side in sides]
        name = f"{heads.named(what, ours, stock)}: peak memory"
        results.row(Row(name, *peaks, "MB", target=target))
