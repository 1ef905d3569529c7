"""Long-tailed detection, instance segmentation and classification for Detectron2.

The names below are the public interface; the modules beneath are imported when one is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lt_det.version import __version__

if TYPE_CHECKING:
    from lt_det.api import (
        add_config,
        balance,
        class_stats,
        create_loss,
        evaluate_lvis,
        list_losses,
        load_config,
        patch,
        predict,
        register,
        run_stages,
        unpatch,
    )
    from lt_det.data.stats.class_stats import ClassStats
    from lt_det.engine.trainer import LongTailTrainer as Trainer

__all__ = [
    "ClassStats",
    "Trainer",
    "__version__",
    "add_config",
    "balance",
    "class_stats",
    "create_loss",
    "evaluate_lvis",
    "list_losses",
    "load_config",
    "patch",
    "predict",
    "register",
    "run_stages",
    "unpatch",
]

#: Public name -> module and name there; the others are functions of lt_det.api.
_ELSEWHERE = {
    "ClassStats": ("lt_det.data.stats.class_stats", "ClassStats"),
    "Trainer": ("lt_det.engine.trainer", "LongTailTrainer"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for first (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    module, attribute = _ELSEWHERE.get(name, ("lt_det.api", name))
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return what is imported and the public names."""
    return sorted({*globals(), *__all__})
