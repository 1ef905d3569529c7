"""Group runs into methods: the seeds of one config are one, and its numbers are their means."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lt_det.report.run_page.run_folder import Evaluated, RunFolder
from lt_det.storage.digest import key_of

# Folders that say which run it is, and not what.
_IS_SEED = re.compile(r"(seed|run)?[-_]?\d+")


@dataclass(frozen=True)
class Method:
    """Runs that differ in their seeds.

    Attributes:
        name: on the page.
        runs: at least one.
        place: among the methods; gives colour and shape.
    """

    name: str
    runs: Sequence[RunFolder]
    place: int

    def evaluations(self, task: str) -> list[Evaluated]:
        """Return the evaluations of its runs."""
        return [run.results[task] for run in self.runs if task in run.results]

    def mean(self, task: str, metric: str) -> float:
        """Return the mean of a metric of the summary over the runs; NaN where undefined."""
        values = [e.summary.get(metric) for e in self.evaluations(task)]
        return nan_mean([np.nan if v is None else float(v) for v in values])

    def of_class(self, task: str) -> dict[str, float]:
        """Return class name -> AP or accuracy, the mean of its runs, NaN where undefined."""
        values: dict[str, list[float]] = {}
        for one in self.evaluations(task):
            for record in one.categories:
                value = record.get(one.metric)
                is_number = isinstance(value, (int, float))
                values.setdefault(record["name"], []).append(float(value) if is_number else np.nan)  # type: ignore[arg-type]
        return {name: nan_mean(v) for name, v in values.items()}


def methods_of(
    runs: Sequence[tuple[str | None, RunFolder]], *, defaults: Mapping[str, Any] | None = None
) -> list[Method]:
    """Return the methods, in the order of their first runs.

    Args:
        runs: name that the user gave, or None, and the run; runs of one name, or of configs that
            differ in their seeds and folders only, are one method.
        defaults: of a config; keys that are as there make no other method.
    """
    groups: dict[str, list[RunFolder]] = {}
    names: dict[str, str | None] = {}
    for name, run in runs:
        key = f"name {name}" if name is not None else _identity(run, defaults or {})
        groups.setdefault(key, []).append(run)
        names[key] = name
    automatic = _names([groups[key] for key in groups])
    return [
        Method(names[key] or automatic[place], found, place)
        for place, (key, found) in enumerate(groups.items())
    ]


def nan_mean(values: Sequence[float]) -> float:
    """Return the mean of the values that are numbers, NaN without any."""
    fine = [v for v in values if np.isfinite(v)]
    return float(np.mean(fine)) if fine else float("nan")


def _identity(run: RunFolder, defaults: Mapping[str, Any]) -> str:
    if run.config.seed is None or not run.results:
        return f"folder {os.path.realpath(run.folder)}"
    config = run.config.chosen(defaults)
    try:
        # A training that goes on from another's end may share all other keys: stage1, stage2.
        name = os.path.basename(os.path.normpath(run.folder))
        name = "" if _IS_SEED.fullmatch(name) else name
        return f"config {key_of([config, name])}"
    except TypeError:  # dates and the like
        return f"folder {os.path.realpath(run.folder)}"


def _names(groups: Sequence[Sequence[RunFolder]]) -> list[str]:
    """Return the shortest ends of the folders that tell the methods apart."""
    paths = [_shared([os.path.abspath(run.folder).split(os.sep) for run in g]) for g in groups]
    for length in range(1, max(len(path) for path in paths) + 1):
        names = ["/".join(path[-length:]) for path in paths]
        if len(set(names)) == len(names):
            seeds = [bool(_IS_SEED.fullmatch(name)) for name in names]
            return ["/".join(p[-2:]) if s else n for p, n, s in zip(paths, names, seeds)]
    return [f"{name} ({i + 1})" for i, name in enumerate(names)]


def _shared(paths: Sequence[Sequence[str]]) -> list[str]:
    """Return the parts that paths have in common, of a/seed0/b and a/seed1/b: a, b."""
    parts = [some[0] for some in zip(*paths) if len(set(some)) == 1]
    return parts if parts[1:] and len({len(path) for path in paths}) == 1 else list(paths[0])
