"""Show what detections are taken for, how far scores can be believed, and kinds of errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lt_det.data.stats.frequency_groups import GROUP_NAMES
from lt_det.report.page import Cell, NumberHead, Section, number_cell
from lt_det.report.run_page.figures import legend_of
from lt_det.report.run_page.material import Material, first_run
from lt_det.report.run_page.methods import Method
from lt_det.report.svg import Axis, Chart, colour_of, element, figure, shape_of

_RUN = (
    "Not shown: no analysis_*.json beside the results. Evaluate again: lt-det evaluate "
    "--config-file CONFIG, or lt-det evaluate VAL.json DETECTIONS.json --analysis on "
    "--output DIR."
)
# What an object of a group is first detected as: key of confusion_groups, words, colour.
_FATES = (
    ("right", "right", "s3"),
    ("r", "a rare class", "r"),
    ("c", "a common class", "c"),
    ("f", "a frequent class", "f"),
    ("missed", "missed", "s0"),
)
_ERRORS = ("classification", "localisation", "both", "duplicate", "background", "missed")
_MOST_PAIRS = 60


def analyses(material: Material) -> list[tuple[Method, Mapping[str, Any]]]:
    """Return the methods whose first run has an analysis of the task, with it."""
    found = []
    for method in material.methods:
        content = first_run(method, material.task).results[material.task or ""].analysis
        if content is not None:
            found.append((method, content))
    return found


def confusion(material: Material) -> Section:
    """Return the part on what objects are taken for, rare ones for frequent ones first."""
    title, there = "What objects are taken for", analyses(material)
    if not there:
        return Section(title, anchor="confusion", short="Confusion", missing=[_RUN])
    rows, groups = [], []
    pairs = [(m, one) for m, c in there for one in (c.get("confusion") or [])[:_MOST_PAIRS]]
    # Where every image is checked for every class, all are certain.
    has_doubt = any(one.get("certain") != one.get("objects") for _, one in pairs)
    for method, one in pairs:
        rows.append(
            [
                *([method.name] if len(there) > 1 else []),
                one["name"],
                GROUP_NAMES.get(one.get("group"), "–"),
                one["detected_name"],
                GROUP_NAMES.get(one.get("detected_group"), "–"),
                number_cell(one.get("objects"), 0),
                *([number_cell(one.get("certain"), 0)] if has_doubt else []),
            ]
        )
        groups.append(one.get("group") or "")
    header = [
        *(["method"] if len(there) > 1 else []),
        "object",
        "group",
        "taken for",
        "group",
        NumberHead("objects"),
        *([NumberHead("surely wrong")] if has_doubt else []),
    ]
    texts = [
        "Each object is given the detection that overlaps it (IoU from 0.5) and "
        "has the highest score of any class. Pairs from rare to frequent come first below."
    ]
    if has_doubt:
        texts.append("Surely wrong: their image is checked for the class that they are taken for.")
    return Section(
        title,
        texts,
        header,
        rows,
        anchor="confusion",
        short="Confusion",
        charts=[_flow(there)],
        sortable=bool(rows),
        search="a class",
        groups=[(g, GROUP_NAMES[g]) for g in GROUP_NAMES if g in groups],
        row_groups=groups,
    )


def _flow(there: Sequence[tuple[Method, Mapping[str, Any]]]) -> Any:
    """Return bars, one a group and method, of what its objects are taken for."""
    width, label, step = 460, 8, 22
    parts, y = [], 0.0
    for group, name in GROUP_NAMES.items():
        shown = [
            (m, c["confusion_groups"][group])
            for m, c in there
            if group in (c.get("confusion_groups") or {})
        ]
        shown = [(m, fates) for m, fates in shown if sum(fates.values())]
        if not shown:
            continue
        parts.append(
            element("text", {"x": 0, "y": y + 15, "font-weight": "bold"}, text=f"{name} objects")
        )
        y += 20
        for method, fates in shown:
            total, x = sum(fates.values()), float(label)
            parts.append(element("text", {"x": label, "y": y + 12}, text=method.name))
            y += 16
            for key, words, colour in _FATES:
                share = fates.get(key, 0) / total
                length = share * (width - label)
                values = {
                    "class": f"bar {colour}",
                    "x": round(x, 1),
                    "y": y,
                    "width": round(length, 1),
                    "height": step - 4,
                }
                about = (
                    f"{method.name}: {fates.get(key, 0)} of {total} {name} objects: "
                    f"{words} ({share:.0%})"
                )
                parts.append(element("rect", values, title=about) if length else "")
                if length > 30:
                    middle = {
                        "class": "inside",
                        "x": round(x + length / 2, 1),
                        "y": y + 13,
                        "text-anchor": "middle",
                    }
                    parts.append(element("text", middle, text=f"{share:.0%}"))
                x += length
            y += step
        y += 8
    legend = [(colour, "square", words) for _, words, colour in _FATES]
    return figure(
        "".join(parts),
        width,
        max(y, 20),
        "what objects are taken for, by group",
        caption="Shares of the objects of each group: right, taken for another class, or missed.",
        legend=legend,
    )


def calibration(material: Material) -> Section:
    """Return the part on scores: precision against score by group."""
    title, there = "Calibration: are scores what they say?", analyses(material)
    if not there:
        return Section(title, anchor="calibration", short="Calibration", missing=[_RUN])
    charts, rows = [], []
    for group, name in {"all": "all classes", **GROUP_NAMES}.items():
        chart = Chart(
            Axis(0, 1, "score"),
            Axis(0, 100, "precision in percent"),
            name=f"precision against score, {name}",
            height=260,
        )
        chart.line([0, 1], [0, 100], "s0", kind="thin", dashes="2 3", title="as the scores say")
        drawn = False
        for method, content in there:
            found = ((content.get("groups") or {}).get(group) or {}).get("calibration") or {}
            bins = [
                b
                for b in found.get("bins") or []
                if b.get("precision") is not None and b.get("score") is not None
            ]
            if not bins:
                continue
            drawn = True
            scores, precisions = [b["score"] for b in bins], [b["precision"] for b in bins]
            chart.line(scores, precisions, colour_of(method.place), title=method.name)
            for one in bins:
                about = (
                    f"{method.name}, {name}: score {one['score']:.2f}, precision "
                    f"{one['precision']:.0f} %, {one['detections']:,} detections"
                )
                chart.point(
                    one["score"],
                    one["precision"],
                    colour_of(method.place),
                    shape=shape_of(method.place),
                    size=3.5,
                    title=about,
                )
            rows.append(
                [
                    method.name,
                    name,
                    number_cell(found.get("error")),
                    number_cell(found.get("largest_error")),
                    number_cell(found.get("detections"), 0),
                ]
            )
        if drawn:
            charts.append(
                chart.html(
                    caption=f"{name[:1].upper()}{name[1:]}.",
                    legend=legend_of([m for m, _ in there]),
                )
            )
    header = [
        "method",
        "group",
        NumberHead("mean gap"),
        NumberHead("largest gap"),
        NumberHead("detections"),
    ]
    return Section(
        title,
        [
            "Below the dotted line scores promise too much, above it too little. Gaps are "
            "percent points between score and precision at IoU 0.5."
        ],
        header,
        rows,
        anchor="calibration",
        short="Calibration",
        charts=charts,
    )


def errors(material: Material) -> Section | None:
    """Return the part on kinds of errors, None without an analysis."""
    there = analyses(material)
    rows = []
    for method, content in there:
        for group, name in {"all": "all classes", **GROUP_NAMES}.items():
            found = ((content.get("groups") or {}).get(group) or {}).get("errors") or {}
            if found:
                cells: list[Any] = [method.name, name]
                for kind in _ERRORS:
                    gain = (found.get(kind) or {}).get("AP50_gain")
                    count = (found.get(kind) or {}).get("count")
                    cell = number_cell(gain)
                    cells.append(
                        Cell(
                            f"{cell.text} ({count:,})" if count is not None else cell.text,
                            cell.sort,
                            "number",
                        )
                    )
                rows.append(cells)
    if not rows:
        return None
    return Section(
        "Kinds of errors",
        [
            "Points of AP50 that would be gained if errors of a kind were mended, and how many: "
            "detections as a class of the group, for missed ones objects of it."
        ],
        ["method", "group", *map(NumberHead, _ERRORS)],
        rows,
        anchor="errors",
        short="Errors",
        sortable=True,
    )


def notes(material: Material) -> list[str]:
    """Return what the evaluations note about results that look like a mistake."""
    return [
        f"{method.name}: {note}"
        for method, content in analyses(material)
        for note in content.get("notes") or []
    ]
