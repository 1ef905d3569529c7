"""Score thresholds by class, from ``thresholds.json`` in the folder of a run.

The file is an object, class name -> score from 0 to 1. Classes that it does not name, and all
where there is no file, have one threshold.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import numpy as np

from lt_det.data.annotations.naming import NUM_NAMED
from lt_det.storage.regular_file import open_regular

#: Name of the file beside the weights.
THRESHOLDS_FILE = "thresholds.json"
#: Of classes without one of their own.
DEFAULT_THRESHOLD = 0.5


def read_thresholds(
    path: str | os.PathLike[str], class_names: Sequence[str], *, default: float = DEFAULT_THRESHOLD
) -> np.ndarray:
    """Return the ``(K,)`` float64 thresholds of a file; a detection is kept from its score on.

    Args:
        path: json, class name -> score; null is ``default``.
        class_names: K names of the model.
        default: of classes that the file does not name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such json, a score is not in [0, 1], or a class is not the model's.
    """
    try:
        with open_regular(path, "r", encoding="utf-8-sig") as file:
            content = json.load(file)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is no json: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{os.fspath(path)} must be an object, class name -> score, got a "
            f"{type(content).__name__}"
        )
    unknown = sorted(set(content) - set(class_names))
    if unknown:
        raise ValueError(
            f"{os.fspath(path)} names {len(unknown)} classes that the model does not have, first "
            f"{unknown[:NUM_NAMED]}: it belongs to another model"
        )
    thresholds = np.full(len(class_names), check_threshold(default, what="default"))
    for index, name in enumerate(class_names):
        if content.get(name) is not None:
            thresholds[index] = check_threshold(content[name], what=f"{os.fspath(path)}: {name!r}")
    return thresholds


def check_threshold(value: object, *, what: str) -> float:
    """Return the value as a score.

    Raises:
        ValueError: if it is no number from 0 to 1; names ``what``.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{what}: a threshold must be a score from 0 to 1, got {value!r}")
    return float(value)
