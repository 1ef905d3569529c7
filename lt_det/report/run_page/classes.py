"""Tabulate all classes, to sort and search, and show which gained and which lost."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from lt_det.data.stats.frequency_groups import GROUP_NAMES
from lt_det.report.image_sheet import shortened
from lt_det.report.page import Cell, NumberHead, Section, number_cell
from lt_det.report.run_page.figures import legend_of
from lt_det.report.run_page.material import Material, first_run
from lt_det.report.svg import Axis, Chart, colour_of, element, figure, shape_of

_UNCOUNTED = "its class counts are not known (--train-json TRAIN.json)"
# Bars of gains, and as many of losses.
_BARS = 12
# Columns of analysis_*.json for the class table, and digits.
_COLUMNS = {
    "AP_fixed": ("AP-Fixed", 1),
    "AR": ("recall", 1),
    "threshold": ("F1-best score", 2),
    "f1": ("F1", 1),
    "precision": ("precision there", 1),
    "recall": ("recall there", 1),
    "num_detections": ("detections", 0),
}


def class_rows(material: Material) -> list[dict[str, Any]]:
    """Return a record a class: name, group, counts, and the figure of each method."""
    return [
        {
            "class": one.name,
            "group": GROUP_NAMES.get(one.group, ""),
            "train_images": one.train_images,
            "test_objects": one.objects,
            **{
                method.name: None if math.isnan(value) else float(value)
                for method, value in zip(material.methods, material.figures[:, k])
            },
        }
        for k, one in enumerate(material.classes)
    ]


def class_table(material: Material, pictured: Container[int]) -> Section:
    """Return the part with a row a class.

    Args:
        material: of the page.
        pictured: places of the classes that have pictures on the page.
    """
    details, last = _details(material)
    columns = [c for c in _COLUMNS if any(d.get(c) is not None for d in details.values())]
    has_reason = any(d.get("why") for d in details.values())
    several, unit = len(material.methods) > 1, material.what
    header = ["class", "group", NumberHead("training images"), NumberHead("test objects")]
    header += [NumberHead(f"{m.name}: {unit}" if several else unit) for m in material.methods]
    header += [NumberHead(f"{m.name} − {material.methods[0].name}") for m in material.methods[1:]]
    header += [NumberHead(_COLUMNS[c][0]) for c in columns] + (
        ["why 0 or none"] if has_reason else []
    )
    rows = []
    for k, one in enumerate(material.classes):
        figures = material.figures[:, k]
        link = f"class-{k}" if k in pictured else ""
        cells: list[Any] = [
            Cell(one.name, link=link),
            Cell(GROUP_NAMES.get(one.group, "–"), "rcf".find(one.group) if one.group else ""),
            number_cell(one.train_images, 0),
            number_cell(one.objects, 0),
            *(number_cell(value) for value in figures),
            *(number_cell(value - figures[0], sign=True) for value in figures[1:]),
        ]
        detail = details.get(one.name, {})
        cells += [number_cell(detail.get(c), _COLUMNS[c][1]) for c in columns]
        if has_reason:
            cells.append(Cell(str(detail.get("why") or ""), kind="long"))
        rows.append(cells)
    texts = ["A click on a head sorts."]
    if columns and several:
        texts.append(f"Columns from {_COLUMNS[columns[0]][0]} on are of {last}.")
    if pictured:
        texts.append("Names lead to images of the class.")
    return Section(
        f"All {len(rows):,} classes",
        [" ".join(texts)],
        header,
        rows,
        anchor="classes",
        short="Classes",
        sortable=True,
        search="a part of the name",
        groups=[(g, GROUP_NAMES[g]) for g in material.groups],
        row_groups=[one.group for one in material.classes],
    )


def _details(material: Material) -> tuple[Mapping[str, Mapping[str, Any]], str]:
    """Return the records of analysis_*.json of the last method that has them, and its name."""
    for method in reversed(material.methods):
        evaluation = first_run(method, material.task).results[material.task or ""]
        if evaluation.analysis is not None:
            records = evaluation.analysis.get("classes") or []
            return {
                r["name"]: r for r in records if isinstance(r, dict) and "name" in r
            }, method.name
    return {}, ""


def gains_and_losses(material: Material) -> Section | None:
    """Return the part with the classes that gained and lost most; None for one method."""
    if len(material.methods) < 2:
        return None
    base, charts = material.methods[0], []
    texts = []
    changes = material.figures[1:] - material.figures[:1]
    # One scale for all bars: a gain is seen beside a loss.
    longest = float(np.abs(changes[np.isfinite(changes)]).max(initial=0.0))
    for method, change in zip(material.methods[1:], changes):
        defined = np.isfinite(change)
        counts = [
            f"{GROUP_NAMES[g]} {sum(change[of] > 0.05)} up, {sum(change[of] < -0.05)} down"
            for g in material.groups
            if (of := [k for k, c in enumerate(material.classes) if c.group == g and defined[k]])
        ]
        texts.append(f"{method.name} against {base.name}: {'; '.join(counts)}." if counts else "")
        order = [k for k in np.argsort(-np.nan_to_num(change), kind="stable") if defined[k]]
        gains = [k for k in order[:_BARS] if change[k] > 0]
        losses = [k for k in order[::-1][:_BARS] if change[k] < 0]
        charts.append(_bars(material, f"{method.name}: most gained", gains, change, longest))
        charts.append(_bars(material, f"{method.name}: most lost", losses, change, longest))
    return Section(
        f"Gains and losses against {base.name}",
        [t for t in texts if t],
        anchor="changes",
        short="Gains and losses",
        charts=[c for c in charts if c is not None],
    )


def _bars(
    material: Material, title: str, chosen: list[int], change: np.ndarray, longest: float
) -> Any:
    if not chosen:
        return None
    width, label, step = 460, 170, 19
    axis = Axis(0, longest * 1.02)
    parts = []
    for place, k in enumerate(chosen):
        one, y = material.classes[k], 4 + place * step
        length = round(axis.share(abs(float(change[k]))) * (width - label - 66), 1)
        images = "" if one.train_images is None else f", {one.train_images} training images"
        words = f"{one.name}: {change[k]:+.1f} points{images}"
        group = one.group or "s0"
        parts.append(
            element(
                "text",
                {"x": label - 6, "y": y + 13, "text-anchor": "end"},
                text=shortened(one.name, 24),
                title=one.name,
            )
        )
        values = {
            "class": f"bar {group}",
            "x": label,
            "y": y + 2,
            "width": length,
            "height": step - 5,
        }
        parts.append(element("rect", values, title=words))
        parts.append(
            element(
                "text",
                {"x": label + length + 4, "y": y + 13},
                text=f"{change[k]:+.1f}".replace("-", "−"),
            )
        )
    legend = [(g, "square", GROUP_NAMES[g]) for g in material.groups]
    height = 8 + len(chosen) * step
    return figure("".join(parts), width, height, title, caption=title, legend=legend)


def classifier_charts(material: Material) -> Section:
    """Return the part with norms and biases of the classifiers against frequency."""
    title = "Classifier against class frequency"
    found = [
        (method, facts.stats, facts.classifier)
        for method in material.all_methods
        for facts in [material.facts[method.runs[0].folder]]
        if facts.classifier is not None
        and facts.stats is not None
        and facts.stats.num_classes <= len(facts.classifier.norms)
    ]
    missing = [
        f"{m.name}: {material.facts[m.runs[0].folder].problem or _UNCOUNTED}."
        for m in material.all_methods
        if m not in [method for method, *_ in found] and m.runs[0].results
    ]
    charts = []
    for what, words in (("norms", "norm of the class's weights"), ("biases", "bias of the class")):
        columns = [(m, stats, getattr(rows, what)) for m, stats, rows in found]
        columns = [column for column in columns if column[2] is not None]
        if not columns:
            continue
        counts = [np.maximum(np.array(s.image_counts, dtype=float), 0.7) for _, s, _ in columns]
        chart = Chart(
            Axis.around(np.concatenate(counts), "training images of the class", log=True),
            Axis.around(
                np.concatenate([v[: len(x)] for x, (_, _, v) in zip(counts, columns)]), words
            ),
            name=f"{words} against training images",
        )
        for x, (method, stats, values) in zip(counts, columns):
            for name, count, value in zip(stats.class_names, x, values):
                chart.point(
                    count,
                    value,
                    colour_of(method.place),
                    shape=shape_of(method.place),
                    size=2.8,
                    faint=True,
                    title=f"{name}: {value:.3g} ({method.name})",
                )
        charts.append(
            chart.html(
                caption=f"{words[:1].upper()}{words[1:]}.",
                legend=legend_of([m for m, _, _ in columns]),
            )
        )
    texts = [
        "A classifier that grows with frequency prefers frequent classes. Of seeds, the first."
    ]
    return Section(
        title,
        texts if charts else [],
        anchor="classifier",
        short="Classifier",
        missing=missing,
        charts=charts,
    )
