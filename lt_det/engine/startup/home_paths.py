"""Put the home directory in the place of a ``~`` in the paths of a config."""

from __future__ import annotations

import os
from typing import Any

#: Keys whose value may be a path. Lists of data sets are expanded where they are registered.
PATH_KEYS = (
    "OUTPUT_DIR",
    "MODEL.WEIGHTS",
    "LT_DET.START_CLASSES",
    "LT_DET.TIMM.WEIGHTS",
    "LT_DET.POST_HOC.LOGN",
)


def expand_home(cfg: Any) -> None:
    """Write the values of :data:`PATH_KEYS` that begin with ``~`` without it, as a shell does.

    In a yaml no shell does it, and Detectron2 would make a folder of the name ``~``.

    Args:
        cfg: config, not frozen; changed.

    Raises:
        ValueError: names the key, if there is no such home directory.
    """
    for key in PATH_KEYS:
        *parents, name = key.split(".")
        node = cfg
        for parent in parents:
            node = node[parent]
        value = node[name]
        if not isinstance(value, str) or not value.startswith("~"):
            continue
        expanded = os.path.expanduser(value)
        if expanded.startswith("~"):
            user = value.split("/")[0]
            raise ValueError(
                f"{key} {value!r}: there is no home directory for {user!r}; write the whole path, "
                f"or './{value}' if a folder has this name"
            )
        node[name] = expanded
