"""The whole loss table: values and gradients on the GPU, equal to those of the CPU."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from gpu_check.device import DEVICE, NAMES, SMALL, TOLERANCE, autocast, compare, same_draws
from gpu_check.results import Results
from lt_det.losses import LOSSES
from lt_det.losses.class_weights import ClassWeights
from lt_det.losses.criterion import Criterion
from lt_det.losses.targets import one_hot_targets

ROWS, CLASSES = (24, 7) if SMALL else (256, 1203)
NUM_IMAGES = 100_000


def run(results: Results, seconds: float) -> None:  # noqa: ARG001
    for name in LOSSES:
        for dtype, tolerance in TOLERANCE.items():
            results.check(f"{name}, {NAMES[dtype]}", partial(check, name, dtype, tolerance))


def check(name: str, dtype: torch.dtype, tolerance: float) -> str:
    """Compare with the CPU's float32 on the same logits, without and with class weights."""
    said = []
    for weighted in (False, True):
        expected = values(name, weighted, "cpu", dtype, torch.float32)
        found = values(name, weighted, DEVICE, dtype, dtype)
        said.append(compare(expected, found, tolerance=tolerance))
    return max(said)


def values(
    name: str, weighted: bool, device: str, rounded: torch.dtype, dtype: torch.dtype
) -> list[Tensor]:
    """Return losses and gradients of a second batch, in ``dtype``, of logits that were rounded.

    The first batch moves the running state of losses that have one.
    """
    counts = torch.logspace(4, 0, CLASSES, dtype=torch.float64)
    weights = ClassWeights("effective_number", beta=0.99) if weighted else None
    criterion = Criterion(name, class_counts=counts, num_images=NUM_IMAGES, class_weights=weights)
    criterion.to(device).train()
    found: list[Tensor] = []
    with same_draws():
        for seed in (0, 1):
            logits, targets = batch(criterion.kind, seed)
            logits = logits.to(rounded).to(device, dtype).requires_grad_()
            targets = targets.to(device)
            with autocast(dtype), criterion.step(logits, targets):
                loss = criterion(logits, targets)
            loss.float().sum().backward()
            found = [loss, logits.grad]
    return found


def batch(kind: str, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(ROWS, CLASSES, generator=generator) * 3
    labels = torch.randint(0, CLASSES + (kind == "sigmoid"), (ROWS,), generator=generator)
    if kind == "sigmoid":
        return logits, one_hot_targets(labels, num_classes=CLASSES, dtype=torch.float32)
    return logits, labels
