"""Tabulate the runs of a sweep."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from lt_det.report.runs import DEFAULT_METRICS, TASK_NAMES, spread

#: Task of results.json -> metrics that stand for it in a table, where they are there.
METRICS = {
    **{task: DEFAULT_METRICS for task in TASK_NAMES},
    "classification": ("top1", "many", "medium", "few", "natural"),
}


def sweep_table(
    rows: Mapping[Any, Sequence[Path]],
    *,
    keys: Sequence[str],
    metrics: Sequence[str] | None = None,
    baseline: tuple[str, ...] | None = None,
    digits: int = 2,
    tablefmt: str = "github",
) -> str:
    """Return a table with a row for each combination of values, ``mean ± deviation`` over runs.

    Args:
        rows: values, one for each of ``keys`` -> output folders, one a seed.
        keys: config keys.
        metrics: as ``task/metric``; None takes the usual ones of each task found.
        baseline: of ``rows``; if given, the other rows have their differences to it, run by run
            in the order of the folders.
        digits: after the point.
        tablefmt: of tabulate.

    Raises:
        FileNotFoundError: if a run has no results.json.
        KeyError: if a run lacks one of ``metrics``; lists what it has.
    """
    results = {values: [read_results(folder) for folder in rows[values]] for values in rows}
    every = [result for runs in results.values() for result in runs]
    if metrics is None:
        metrics = [
            f"{task}/{metric}"
            for task, names in METRICS.items()
            for metric in names
            if all(f"{task}/{metric}" in result for result in every)
        ]
    for name in metrics:
        for result in every:
            if name not in result:
                raise KeyError(f"no metric {name!r} in the results; they have {sorted(result)}")
    if baseline is not None:
        reference = results.pop(baseline)
        results = {
            values: [
                {name: run[name] - of_seed[name] for name in metrics}
                for run, of_seed in zip(runs, reference)
            ]
            for values, runs in results.items()
        }
    header = [*(key.split(".")[-1] for key in keys), "runs", *metrics]
    table = [
        [
            *values,
            len(runs),
            *(spread([run[name] for run in runs], digits=digits) for name in metrics),
        ]
        for values, runs in results.items()
    ]
    return tabulate(table, header, tablefmt=tablefmt, disable_numparse=True)


def read_results(folder: Path) -> dict[str, float]:
    """Return ``task/metric`` -> value of a run's results.json, NaN where undefined.

    Raises:
        FileNotFoundError: if the run was not evaluated.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no results.json: its run has not ended, or DATASETS.TEST is empty"
        )
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["results"]
    return {
        f"{task}/{metric}": float("nan") if value is None else value
        for task, values in content.items()
        for metric, value in values.items()
        if value is None or isinstance(value, (int, float))
    }
