"""Read result files of finished runs, and tabulate runs and seeds."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from tabulate import tabulate

from lt_det.storage.regular_file import open_regular

DEFAULT_METRICS = ("AP", "APr", "APc", "APf")
CLASSIFICATION_METRICS = ("top1", "many", "medium", "few")
TASK_NAMES = {"bbox": "box", "segm": "mask", "classification": "test"}


@dataclass(frozen=True)
class Run:
    """Results of one evaluated run, from its output folder.

    Attributes:
        folder: the output folder.
        summaries: task ("bbox", "segm" or "classification") -> metric -> percent, NaN where
            undefined.
        categories: task -> one record a class: name, group, AP or accuracy, and counts.
    """

    folder: str
    summaries: Mapping[str, Mapping[str, float]]
    categories: Mapping[str, Sequence[Mapping[str, Any]]]

    @classmethod
    def read(cls, folder: str) -> Run:
        """Return the run whose OUTPUT_DIR is ``folder``.

        Raises:
            FileNotFoundError: if it was not evaluated.
        """
        summaries, categories = {}, {}
        for task in TASK_NAMES:
            path = os.path.join(folder, "inference", f"per_category_{task}.json")
            if not os.path.isfile(path):
                continue
            with open_regular(path, "r", encoding="utf-8") as file:
                content = json.load(file)
            summaries[task] = {
                name: float("nan") if value is None else value
                for name, value in content["summary"].items()
            }
            categories[task] = content["categories"]
        if not summaries:
            raise FileNotFoundError(
                f"{folder} has no inference/per_category_bbox.json, _segm.json or "
                "_classification.json: evaluate the run "
                "with lt-det evaluate"
            )
        return cls(folder, summaries, categories)


def spread(values: Sequence[float], *, digits: int = 1) -> str:
    """Return ``mean`` of one value, ``mean ± sample standard deviation`` of several."""
    if any(math.isnan(value) for value in values):
        return "–"
    text = f"{mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {stdev(values):.{digits}f}"


def comparison_table(
    runs: Mapping[str, Sequence[Run]],
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    tablefmt: str = "github",
) -> str:
    """Return a table with a row for each method and box and mask columns for each metric.

    Args:
        runs: method -> its runs, one a seed.
        metrics: keys of the summaries.
        tablefmt: of tabulate.
    """
    tasks = [t for t in TASK_NAMES if all(t in run.summaries for rs in runs.values() for run in rs)]
    header = ["method", *(f"{TASK_NAMES[t]} {m}" for t in tasks for m in metrics)]
    rows = [
        [name, *(spread([run.summaries[t][m] for run in rs]) for t in tasks for m in metrics)]
        for name, rs in runs.items()
    ]
    return tabulate(rows, header, tablefmt=tablefmt, disable_numparse=True)


def difference_table(
    runs: Mapping[str, Sequence[Run]],
    *,
    baseline: str,
    task: str,
    metrics: Sequence[str] = DEFAULT_METRICS,
    tablefmt: str = "github",
) -> str:
    """Return each method's difference to ``baseline``, seed by seed, as mean ± deviation.

    Args:
        runs: method -> its runs, in the same order of seeds.
        baseline: a key of ``runs``.
        task: "bbox" or "segm".
        metrics: keys of the summaries.
        tablefmt: of tabulate.
    """
    rows = []
    for name, rs in runs.items():
        if name == baseline:
            continue
        row = [name]
        for metric in metrics:
            pairs = zip(rs, runs[baseline])
            row.append(
                spread([a.summaries[task][metric] - b.summaries[task][metric] for a, b in pairs])
            )
        rows.append(row)
    header = [f"{TASK_NAMES[task]}, minus {baseline}", *metrics]
    return tabulate(rows, header, tablefmt=tablefmt, disable_numparse=True)
