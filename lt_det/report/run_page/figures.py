"""Figures of methods, their intervals and differences, as all parts of the page take them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lt_det.report.run_page.material import Material
from lt_det.report.run_page.methods import Method
from lt_det.report.svg import colour_of, shape_of

#: Metric -> key of its group in an analysis.
GROUP_OF = {"AP": "all", "APr": "r", "APc": "c", "APf": "f"}


@dataclass(frozen=True)
class Difference:
    """A method against the first one, on one metric.

    Attributes:
        method: name.
        baseline: name of the first.
        seed: of the pair of runs; "" for the only one.
        metric: as "APr".
        value: points.
        low: of its interval, NaN without one.
        high: see ``low``.
        verdict: "higher", "lower", "no difference can be shown"; "" without an interval.
    """

    method: str
    baseline: str
    seed: str
    metric: str
    value: float
    low: float = math.nan
    high: float = math.nan
    verdict: str = ""


def point_differences(material: Material) -> list[Difference]:
    """Return the differences of the means to the first method, without intervals."""
    base = material.methods[0]
    return [
        Difference(
            method.name,
            base.name,
            "",
            metric,
            method.mean(material.task or "", metric) - base.mean(material.task or "", metric),
        )
        for method in material.methods[1:]
        for metric in material.metrics
    ]


def figures_of(method: Method, task: str | None, metric: str) -> list[float]:
    """Return a metric in percent, one a run; those without it are left out."""
    found = [e.summary.get(metric) for e in method.evaluations(task or "")]
    return [float(v) for v in found if isinstance(v, (int, float)) and math.isfinite(v)]


def interval_of(method: Method, task: str | None, group: str) -> tuple[float, float] | None:
    """Return the interval of the only run of a method."""
    evaluations = method.evaluations(task or "")
    if len(evaluations) != 1 or evaluations[0].analysis is None:
        return None
    one = evaluations[0].analysis["groups"].get(group) or {}
    interval = one.get("AP_interval")
    if not isinstance(interval, list) or None in interval or len(interval) != 2:
        return None
    return float(interval[0]), float(interval[1])


def summary_rows(material: Material) -> list[dict[str, Any]]:
    """Return method, task, metric, mean, deviation and interval of each figure."""
    rows = []
    for method in material.all_methods:
        for task in ("bbox", "segm", "classification"):
            evaluations = method.evaluations(task)
            names = {name: None for e in evaluations for name in e.summary}
            for metric in names:
                values = figures_of(method, task, metric)
                group = GROUP_OF.get(metric)
                interval = interval_of(method, task, group) if group else None
                rows.append(
                    {
                        "method": method.name,
                        "task": task,
                        "metric": metric,
                        "runs": len(values),
                        "value": float(np.mean(values)) if values else None,
                        "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                        "low": interval[0] if interval else None,
                        "high": interval[1] if interval else None,
                    }
                )
    return rows


def legend_of(methods: Sequence[Method]) -> list[tuple[str, str, str]]:
    """Return colour, shape and name of methods, for a chart's legend; one needs none."""
    if len(methods) < 2:
        return [(colour_of(m.place), shape_of(m.place), m.name) for m in methods if m.place]
    return [(colour_of(m.place), shape_of(m.place), m.name) for m in methods]
