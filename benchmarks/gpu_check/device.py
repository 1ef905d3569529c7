"""Where the check runs, how large its inputs are, and how it compares."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor

#: The parts see a GPU or none; CUDA_VISIBLE_DEVICES hides it for a rehearsal.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
#: A rehearsal is for the code: small inputs, few repeats.
SMALL = DEVICE == "cpu"
#: Largest difference, relative to the largest value of the tensor. Half precision: two roundings
#: of its inputs and outputs.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}
NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


def set_up() -> None:
    """Compute in full float32 and the same each time; be quiet."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore", message="torch.meshgrid")
    warnings.filterwarnings("ignore", message=".*autocast.*")


def autocast(dtype: torch.dtype) -> Any:
    """Return a context of mixed precision, none for float32.

    On a CPU older versions of torch have no float16 there, and compute in float32.
    """
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(DEVICE, dtype=dtype)


def compare(
    expected: Sequence[Tensor | None], found: Sequence[Tensor | None], *, tolerance: float
) -> str:
    """Return the largest relative difference of tensors.

    Raises:
        AssertionError: if it is above the tolerance, or a value is not finite.
    """
    largest = 0.0
    assert len(expected) == len(found), f"{len(expected)} tensors, {len(found)} on {DEVICE}"
    for number, (one, two) in enumerate(zip(expected, found)):
        if one is None or two is None:
            assert one is two, f"tensor {number} is there on one side only"
            continue
        one, two = one.detach().double().cpu(), two.detach().double().cpu()
        assert one.shape == two.shape, f"shapes {tuple(one.shape)}, {tuple(two.shape)}"
        assert bool(torch.isfinite(two).all()), f"tensor {number} is not finite"
        if one.numel():
            scale = max(float(one.abs().max()), 1e-6)
            largest = max(largest, float((one - two).abs().max()) / scale)
    said = f"largest difference {largest:.1e} of the largest value, allowed {tolerance:.0e}"
    assert largest <= tolerance, said
    return said


@contextlib.contextmanager
def same_draws(seed: int = 0) -> Iterator[None]:
    """Draw the same uniform numbers on each device: on the CPU, then moved."""
    real = torch.rand
    generator = torch.Generator().manual_seed(seed)

    def rand(*size: Any, device: Any = None, **others: Any) -> Tensor:
        others.pop("generator", None)
        return real(*size, generator=generator, **others).to(device or "cpu")

    with mock.patch("torch.rand", rand):
        yield
