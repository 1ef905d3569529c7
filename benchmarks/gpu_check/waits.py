"""How often a step makes the host wait for the GPU, against Detectron2."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import post_processing
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gpu_check import detections, steps
from gpu_check.device import DEVICE, SMALL
from gpu_check.results import Results

#: Operations whose result the host has to know: what a rehearsal on a CPU counts.
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "is_nonzero")
CLASSES = 80 if SMALL else 1203


class Waits(TorchDispatchMode):
    """Counts operations that would wait on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ARG002
        self.count += func.overloadpacket.__name__ in WAITING
        return func(*args, **(kwargs or {}))


def waits(function: Callable[[], object]) -> int:
    """Return how often a call waits; it has been called before, so nothing is loaded for it."""
    function()
    if DEVICE == "cpu":
        with Waits() as counter:
            function()
        return counter.count
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in caught)


def run(results: Results, seconds: float) -> None:  # noqa: ARG001
    detections.set_up()
    steps.set_up()
    for one in steps.COMPARISONS:
        before = waits(one.stock_step(CLASSES))
        for loss, step in one.our_steps(CLASSES):
            name = f"host waits of a training step: {one.what}, {CLASSES:,} classes, {loss}"
            results.check(name, partial(said, before, step))
    for name in detections.cases():
        sides = post_processing.build(name)
        results.check(f"host waits: {name}", partial(said, waits(sides["stock"]), sides["ours"]))


def said(before: int, function: Callable[[], object]) -> str:
    return f"Detectron2 {before}, lt_det {waits(function)}"
