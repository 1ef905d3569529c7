"""Choose between our post-processing and Detectron2's."""

from __future__ import annotations

import torch

from lt_det.data.warn_once import warn_once


def is_ours_wanted(setting: bool | None, device: torch.device) -> bool:
    """Return whether ours is to run.

    Args:
        setting: LT_DET.FAST_INFERENCE. None: where it was measured to be faster, which is the CPU.
        device: of the predictions.
    """
    return device.type == "cpu" if setting is None else setting


def is_recorded() -> bool:
    """Return whether the model is being traced or exported: then Detectron2's code has to run.

    How many candidates are looked at depends on the data; a trace would freeze it.
    """
    recorded = torch.jit.is_tracing() or torch.jit.is_scripting() or _is_compiled()
    if recorded:
        warn_once(
            "Traced or exported model: it gets Detectron2's own post-processing, which is slow "
            "with many classes"
        )
    return recorded


def _is_compiled() -> bool:
    function = getattr(getattr(torch, "compiler", None), "is_compiling", None)
    return function is not None and bool(function())  # from torch 2.1 on
