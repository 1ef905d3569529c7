"""Input checks of the losses. Of tensors shapes and dtypes only: no check waits for the device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def check_labels(logits: Tensor, labels: Tensor) -> None:
    """Raise unless ``logits`` is float ``(N, C)`` and ``labels`` int64 ``(N,)``.

    Raises:
        ValueError: names the argument, what was expected and what came.
    """
    if logits.dim() != 2 or not logits.is_floating_point():
        raise ValueError(
            f"logits must be float of shape (N, C), got {logits.dtype} {tuple(logits.shape)}"
        )
    if labels.dtype != torch.int64 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"labels must be int64 of shape ({logits.shape[0]},) to go with logits "
            f"{tuple(logits.shape)}, got {labels.dtype} {tuple(labels.shape)}"
        )


def check_targets(logits: Tensor, targets: Tensor) -> None:
    """Raise unless ``logits`` and ``targets`` are float and both ``(N, K)``.

    Raises:
        ValueError: names the argument, what was expected and what came.
    """
    if logits.dim() != 2 or not logits.is_floating_point():
        raise ValueError(
            f"logits must be float of shape (N, K), got {logits.dtype} {tuple(logits.shape)}"
        )
    if targets.shape != logits.shape or not targets.is_floating_point():
        raise ValueError(
            f"targets must be float of shape {tuple(logits.shape)}, as the logits, "
            f"got {targets.dtype} {tuple(targets.shape)}"
        )


def check_class_counts(
    class_counts: Tensor, *, num_columns: int, num_images: int | None = None
) -> None:
    """Raise unless ``class_counts`` has one positive finite number for each column.

    The numbers themselves are looked at on the CPU only: on a GPU that would make the host wait
    at every step. :meth:`lt_det.losses.criterion.Criterion.bind` checks them once, on the CPU.

    Args:
        class_counts: ``(C,)``.
        num_columns: C, columns of the logits.
        num_images: if given, no count may be above it.

    Raises:
        ValueError: names the first offending class ids.
    """
    if class_counts.shape != (num_columns,):
        raise ValueError(
            f"class_counts must have one number for each of the {num_columns} columns of the "
            f"logits, got shape {tuple(class_counts.shape)}; in a detector with softmax the "
            "background is a column too (lt_det.data.stats.class_prior.counts_with_background)"
        )
    if class_counts.device.type != "cpu" or is_compiled():
        return
    bad = ~(torch.isfinite(class_counts) & (class_counts > 0))
    if bad.any():
        ids = bad.nonzero().flatten()[:5].tolist()
        raise ValueError(
            f"class_counts must be positive and finite, not so for class ids {ids}; "
            "clamp empty classes to 1, as ClassStats.counts() does"
        )
    if num_images is not None and float(class_counts.max()) > num_images:
        raise ValueError(
            f"num_images must be at least the largest of class_counts "
            f"({float(class_counts.max()):g}), got {num_images}: count images, not instances"
        )


def check_finite(hyperparameters: Mapping[str, Any]) -> None:
    """Raise if a number of ``hyperparameters`` is NaN or infinite.

    Raises:
        ValueError: names the first.
    """
    for name, value in hyperparameters.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value}")


def is_compiled() -> bool:
    """Return whether ``torch.compile`` is at work: a branch on numbers would break its graph."""
    return hasattr(torch, "compiler") and bool(torch.compiler.is_compiling())


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return ``tensor``, as float32 if it has fewer bits.

    Half precision holds neither a prior of 1e-5 beside a large logit nor a sum over classes.
    """
    return tensor.float() if torch.finfo(tensor.dtype).bits < 32 else tensor
