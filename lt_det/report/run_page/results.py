"""Show AP of the groups with intervals, and what the runs differ in beyond chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lt_det.report.page import Cell, NumberHead, Section, number_cell
from lt_det.report.run_page.figures import GROUP_OF, Difference, figures_of, interval_of
from lt_det.report.run_page.group_charts import difference_chart, group_chart
from lt_det.report.run_page.material import Material
from lt_det.report.runs import TASK_NAMES


def results(material: Material, differences: Sequence[Difference]) -> Section:
    """Return the part with the figures of all groups and tasks, and the differences."""
    parts = [_table(material, task) for task in TASK_NAMES if _is_evaluated(material, task)]
    missing = []
    has = any(interval_of(m, material.task, "all") for m in material.methods)
    has |= any(math.isfinite(d.low) for d in differences)
    known = [e for m in material.methods for e in m.evaluations(material.task or "")]
    if not any(e.analysis for e in known) and material.task != "classification":
        missing.append(
            "No intervals: they are in analysis_*.json of an evaluation by this version "
            "with its analysis on (lt-det evaluate)."
        )
    charts = [group_chart(material)]
    if len(material.methods) > 1:
        charts.append(difference_chart(material, differences))
        parts.append(_difference_table(differences))
    texts = [
        "Intervals are bootstrap intervals over the test images. They say what other images "
        "of this kind would change, not what another seed of the training would."
    ]
    if any(len(m.runs) > 1 for m in material.methods):
        texts.append("Methods of several seeds: mean ± standard deviation over the seeds.")
    return Section(
        "Groups of classes",
        texts if has else texts[1:],
        anchor="groups",
        short="Groups",
        missing=missing,
        charts=charts,
        parts=parts,
    )


def _is_evaluated(material: Material, task: str) -> bool:
    return any(m.evaluations(task) for m in material.methods)


def _table(material: Material, task: str) -> Section:
    known = list(
        dict.fromkeys(k for m in material.methods for e in m.evaluations(task) for k in e.summary)
    )
    first = [m for m in (*material.metrics, "AP50", "AP75") if m in known]
    metrics = [*first, *(k for k in known if k not in first)]
    rows = []
    for method in material.methods:
        cells: list[Any] = [method.name]
        for metric in metrics:
            values = figures_of(method, task, metric)
            cell = number_cell(float(np.mean(values)) if values else None)
            text = cell.text
            if len(values) > 1:
                text += f" ± {np.std(values, ddof=1):.1f}"
            group = GROUP_OF.get(metric)
            interval = interval_of(method, task, group) if group else None
            if interval:
                text += f" [{interval[0]:.1f}, {interval[1]:.1f}]"
            cells.append(Cell(text, cell.sort, "number"))
        rows.append(cells)
    name = {"bbox": "Boxes", "segm": "Masks"}.get(task, TASK_NAMES[task].capitalize())
    return Section(name, header=["", *map(NumberHead, metrics)], rows=rows)


def _points(one: Difference) -> Cell:
    """Return the points, with a colour where an interval shows a difference."""
    cell = number_cell(one.value, sign=True)
    is_shown = one.verdict in ("higher", "lower")
    return cell if is_shown else Cell(cell.text, cell.sort, "number")


def _difference_table(differences: Sequence[Difference]) -> Section:
    several = any(d.seed for d in differences)
    rows = []
    for one in differences:
        bounds = "–"
        if math.isfinite(one.low):
            ends = (number_cell(end, sign=True).text for end in (one.low, one.high))
            bounds = f"[{', '.join(ends)}]"
        colour = {"higher": "up", "lower": "down"}.get(one.verdict, "")
        cells: list[Any] = [one.method, *([one.seed] if several else []), one.metric]
        rows.append(
            [
                *cells,
                _points(one),
                Cell(bounds, kind="number"),
                Cell(one.verdict or "–", kind=colour),
            ]
        )
    base = differences[0].baseline if differences else ""
    has = any(math.isfinite(d.low) for d in differences)
    note = (
        "Paired bootstrap: both runs on the same resampled images, 95 %."
        if has
        else "No intervals: they need matches_*.npz of an evaluation by this version, and as many "
        "seeds of both methods."
    )
    header = [
        "method",
        *(["seed"] if several else []),
        "metric",
        NumberHead("points"),
        NumberHead("interval"),
        "says",
    ]
    return Section(f"Difference to {base}", [note], header, rows)
