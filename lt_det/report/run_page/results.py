"""Show AP of the groups with intervals, and what the runs differ in beyond chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lt_det.report.page import Cell, NumberHead, Section, number_cell
from lt_det.report.run_page.material import Material
from lt_det.report.run_page.methods import Method
from lt_det.report.svg import Axis, colour_of, element, figure, marker, shape_of, tick_text

_GROUPS = {"all": "all classes", "r": "rare", "c": "common", "f": "frequent"}


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


def results(material: Material, differences: Sequence[Difference]) -> Section:
    """Return the part with the figures of all groups and tasks, and the differences."""
    from lt_det.report.runs import TASK_NAMES

    parts = [_table(material, task) for task in TASK_NAMES if _is_evaluated(material, task)]
    missing = []
    if not any(_interval(m, material.task, "all") for m in material.methods):
        missing.append(
            "No intervals: they are in analysis_*.json of an evaluation by this version "
            "(lt-det evaluate; LT_DET.EVAL.ANALYSIS)."
        )
    charts = [_forest(material)]
    if len(material.methods) > 1:
        charts.append(_differences_chart(material, differences))
        parts.append(_difference_table(differences))
    texts = ["Intervals are bootstrap intervals over the test images. They say what other images of "
             "this kind would change, not what another seed of the training would."]  # fmt: skip
    if any(len(m.runs) > 1 for m in material.methods):
        texts.append("Methods of several seeds: mean ± standard deviation over the seeds.")
    return Section(
        "Groups of classes",
        texts if not missing else texts[1:],
        anchor="groups",
        short="Groups",
        missing=missing,
        charts=charts,
        parts=parts,
    )


def lead(material: Material, differences: Sequence[Difference]) -> list[str]:
    """Return what a reader wants first: the figures, or who is better in what."""
    if not material.methods:
        return []
    if len(material.methods) == 1:
        method = material.methods[0]
        return [f"{method.name}: {_figures(material, method)}."]
    lines = []
    base = material.methods[0]
    for method in material.methods[1:]:
        own = [d for d in differences if d.method == method.name]
        by_metric = {metric: [d for d in own if d.metric == metric] for metric in material.metrics}
        said = []
        for metric, found in by_metric.items():
            values = [d.value for d in found if math.isfinite(d.value)]
            if not values:
                continue
            mean = float(np.mean(values))
            text = f"{metric} {mean:+.1f}".replace("-", "−")
            one = found[0]
            if len(found) == 1 and math.isfinite(one.low):
                text += f" [{one.low:+.1f}, {one.high:+.1f}]".replace("-", "−")
                text += (
                    "" if one.verdict in ("higher", "lower") else " (no difference can be shown)"
                )
            elif len(values) > 1:
                text += f" ± {np.std(values, ddof=1):.1f}"
            said.append(text)
        if said:
            lines.append(f"{method.name} against {base.name}: {', '.join(said)}.")
    return lines


def summary_rows(material: Material) -> list[dict[str, Any]]:
    """Return method, task, metric, mean, deviation and interval of each figure."""
    rows = []
    for method in material.all_methods:
        for task in ("bbox", "segm", "classification"):
            evaluations = method.evaluations(task)
            names = {name: None for e in evaluations for name in e.summary}
            for metric in names:
                values = _values(method, task, metric)
                group = {"AP": "all", "APr": "r", "APc": "c", "APf": "f"}.get(metric)
                interval = _interval(method, task, group) if group else None
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


def _is_evaluated(material: Material, task: str) -> bool:
    return any(m.evaluations(task) for m in material.methods)


def _values(method: Method, task: str, metric: str) -> list[float]:
    found = [e.summary.get(metric) for e in method.evaluations(task)]
    return [float(v) for v in found if isinstance(v, (int, float)) and math.isfinite(v)]


def _interval(method: Method, task: str | None, group: str) -> tuple[float, float] | None:
    """Return the interval of the only run of a method."""
    evaluations = method.evaluations(task or "")
    if len(evaluations) != 1 or evaluations[0].analysis is None:
        return None
    one = evaluations[0].analysis["groups"].get(group) or {}
    interval = one.get("AP_interval")
    if not isinstance(interval, list) or None in interval or len(interval) != 2:
        return None
    return float(interval[0]), float(interval[1])


def _figures(material: Material, method: Method) -> str:
    said = []
    for metric, group in material.metrics.items():
        value = method.mean(material.task or "", metric)
        if math.isfinite(value):
            interval = _interval(method, material.task, group)
            bounds = f" [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else ""
            said.append(f"{metric} {value:.1f}{bounds}")
    return ", ".join(said) or "no figure is defined"


def _table(material: Material, task: str) -> Section:
    from lt_det.report.runs import TASK_NAMES

    known = list(
        dict.fromkeys(k for m in material.methods for e in m.evaluations(task) for k in e.summary)
    )
    first = [m for m in (*material.metrics, "AP50", "AP75") if m in known]
    metrics = [*first, *(k for k in known if k not in first)]
    rows = []
    for method in material.methods:
        cells: list[Any] = [method.name]
        for metric in metrics:
            values = _values(method, task, metric)
            cell = number_cell(float(np.mean(values)) if values else None)
            text = cell.text
            if len(values) > 1:
                text += f" ± {np.std(values, ddof=1):.1f}"
            group = {"AP": "all", "APr": "r", "APc": "c", "APf": "f"}.get(metric)
            interval = _interval(method, task, group) if group else None
            if interval:
                text += f" [{interval[0]:.1f}, {interval[1]:.1f}]"
            cells.append(Cell(text, cell.sort, "number"))
        rows.append(cells)
    name = {"bbox": "Boxes", "segm": "Masks"}.get(task, TASK_NAMES[task].capitalize())
    return Section(name, header=["", *map(NumberHead, metrics)], rows=rows)


def _difference_table(differences: Sequence[Difference]) -> Section:
    several = any(d.seed for d in differences)
    rows = []
    for one in differences:
        bounds = "–"
        if math.isfinite(one.low):
            bounds = f"[{one.low:+.1f}, {one.high:+.1f}]".replace("-", "−")
        colour = {"higher": "up", "lower": "down"}.get(one.verdict, "")
        cells: list[Any] = [one.method, *([one.seed] if several else []), one.metric]
        rows.append(
            [*cells, number_cell(one.value, sign=True), Cell(bounds, kind="number"),
             Cell(one.verdict or "–", kind=colour)]
        )  # fmt: skip
    base = differences[0].baseline if differences else ""
    has = any(math.isfinite(d.low) for d in differences)
    note = ("Paired bootstrap: both runs on the same resampled images, 95 %." if has
            else "Without intervals: both runs need matches_*.npz of an evaluation by this version.")  # fmt: skip
    header = ["method", *(["seed"] if several else []), "metric", NumberHead("points"),
              NumberHead("interval"), "says"]  # fmt: skip
    return Section(f"Difference to {base}", [note], header, rows)


def _rows_chart(
    name: str, rows: Sequence[tuple[str, Sequence[tuple[int, float, float, float, str]]]],
    axis: Axis, *, caption: str, legend: Any, zero: bool,
) -> Any:  # fmt: skip
    """Return rows of points with whiskers: (place, value, low, high, title)."""
    left, right, step = 66, 448, 15
    height = sum(max(len(points), 1) * step + 12 for _, points in rows) + 44

    def place(value: float) -> float:
        return round(left + min(max(axis.share(value), 0), 1) * (right - left), 1)

    parts, y, bottom = [], 8.0, height - 36
    for value in axis.ticks():
        x = place(value)
        kind = "guide" if zero and value == 0 else "axis"
        parts.append(element("path", {"class": kind, "d": f"M{x} 4V{bottom}"}))
        middle = {"text-anchor": "middle", "x": x, "y": bottom + 16}
        parts.append(element("text", middle, text=tick_text(value)))
    middle = {"text-anchor": "middle", "x": (left + right) / 2, "y": height - 4}
    parts.append(element("text", middle, text=axis.label))
    for label, points in rows:
        centre = y + max(len(points), 1) * step / 2
        parts.append(element("text", {"x": 0, "y": round(centre + 4, 1)}, text=label))
        for index, value, low, high, title in points:
            y += step
            if not math.isfinite(value):
                continue
            line = round(y - step / 2, 1)
            if math.isfinite(low):
                values = {
                    "class": f"path {colour_of(index)}",
                    "d": f"M{place(low)} {line}H{place(high)}",
                }
                parts.append(element("path", values))
            kind = f"dot {colour_of(index)}"
            parts.append(marker(place(value), line, shape_of(index), 4.5, kind, title))
        y += 12
    return figure("".join(parts), 460, height, name, caption=caption, legend=legend)


def _forest(material: Material) -> Any:
    task, rows, every = material.task or "", [], [0.0]
    for metric, group in material.metrics.items():
        points = []
        for method in material.methods:
            value = method.mean(task, metric)
            interval = _interval(method, task, group)
            low, high = interval or (math.nan, math.nan)
            values = _values(method, task, metric)
            if interval is None and len(values) > 1:
                low, high = min(values), max(values)
            every += [v for v in (value, low, high) if math.isfinite(v)]
            bounds = f" [{low:.1f}, {high:.1f}]" if math.isfinite(low) else ""
            points.append(
                (method.place, value, low, high, f"{method.name}: {metric} {value:.1f}{bounds}")
            )
        rows.append((_row_name(metric, group), points))
    what = f"{material.what} in percent"
    whiskers = _whiskers(material)
    return _rows_chart(
        f"{what} of groups", rows, Axis(0, max(every) * 1.08 or 1.0, what),
        caption=f"{material.what} by group{whiskers}.", legend=legend_of(material.methods), zero=False,
    )  # fmt: skip


def _whiskers(material: Material) -> str:
    if any(_interval(m, material.task, "all") for m in material.methods):
        return ". Lines are 95 % intervals"
    return ". Lines reach from the lowest to the highest seed" if any(
        len(m.runs) > 1 for m in material.methods
    ) else ""  # fmt: skip


def _differences_chart(material: Material, differences: Sequence[Difference]) -> Any:
    rows, every = [], [0.0]
    for metric, group in material.metrics.items():
        points = []
        for method in material.methods[1:]:
            for one in differences:
                if one.method == method.name and one.metric == metric:
                    every += [v for v in (one.value, one.low, one.high) if math.isfinite(v)]
                    title = f"{method.name}{one.seed and ', seed ' + one.seed}: {metric} {one.value:+.1f}"
                    points.append((method.place, one.value, one.low, one.high, title))
        rows.append((_row_name(metric, group), points))
    base = material.methods[0].name
    axis = Axis.around(every, f"points of {material.what} above {base}")
    return _rows_chart(
        f"difference to {base}", rows, axis,
        caption=f"Difference to {base}. A line that crosses 0: no difference can be shown.",
        legend=legend_of(material.methods[1:]), zero=True,
    )  # fmt: skip


def _row_name(metric: str, group: str) -> str:
    return {"AP": "all", "top1": "all"}.get(
        metric, _GROUPS[group] if metric.startswith("AP") else metric
    )


def legend_of(methods: Sequence[Method]) -> list[tuple[str, str, str]]:
    """Return colour, shape and name of methods, for a chart's legend; one needs none."""
    if len(methods) < 2:
        return [(colour_of(m.place), shape_of(m.place), m.name) for m in methods if m.place]
    return [(colour_of(m.place), shape_of(m.place), m.name) for m in methods]
