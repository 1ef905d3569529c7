"""Show what a meta learner learned, and what ``lt-det balance`` tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lt_det.data.stats.frequency_groups import GROUP_NAMES
from lt_det.report.page import Cell, NumberHead, Section, number_cell
from lt_det.report.run_page.material import Material
from lt_det.report.run_page.training_facts import final_meta_weights, meta_weights
from lt_det.report.svg import Axis, Chart, colour_of, shape_of

_LEVELS = ("as trained", "post-processing", "calibration", "loss", "meta")
_METRICS = ("AP", "APr", "APc", "APf")
# Of image classifiers, in the same order.
_ACCURACIES = ("mean_class", "few", "medium", "many")


def learned_weights(material: Material) -> Section | None:
    """Return the part on learned class weights or rates, None where no run learned any."""
    charts = []
    for method in material.all_methods:
        run = method.runs[0]
        word, series = meta_weights(run)
        if series:
            xs = [x for of, _ in series.values() for x in of]
            ys = [y for _, of in series.values() for y in of]
            axis = Axis(0, max(xs) + 1, "iteration")
            chart = Chart(
                axis,
                Axis.around([*ys, 1.0], f"mean {word} of the group"),
                name=f"learned {word} over time, {method.name}",
            )
            chart.across(1)
            for group, (x, y) in series.items():
                chart.line(x, y, group, title=f"{GROUP_NAMES[group]} classes")
            legend = [(group, "square", GROUP_NAMES[group]) for group in series]
            caption = (
                f"{method.name}: learned {word}s over time, relative to the mean over classes."
            )
            charts.append(chart.html(caption=caption, legend=legend))
        final = final_meta_weights(run)
        if final:
            chart = Chart(
                Axis.around(
                    [max(c, 0.7) for _, _, c, _ in final], "training images of the class", log=True
                ),
                Axis.around([*(w for *_, w in final), 1.0], f"{word or 'value'} at the end"),
                name=f"learned values against training images, {method.name}",
            )
            chart.across(1)
            for name, group, count, value in final:
                chart.point(
                    max(count, 0.7),
                    value,
                    group if group in GROUP_NAMES else "s0",
                    size=3,
                    title=f"{name}: {value:.3g}, {count:.0f} training images",
                )
            legend = [(g, "circle", GROUP_NAMES[g]) for g in GROUP_NAMES]
            caption = f"{method.name}: what was learned at the end, each class."
            charts.append(chart.html(caption=caption, legend=legend))
    if not charts:
        return None
    several = any(len(method.runs) > 1 for method in material.all_methods)
    return Section(
        "What the meta learner learned",
        [
            "Classes above the dotted line count more in the training than the mean class, classes "
            f"below it less.{' Of seeds, the first.' if several else ''}"
        ],
        anchor="meta",
        short="Meta weights",
        charts=charts,
    )


def balance_parts(material: Material) -> list[Section]:
    """Return a part for each output of ``lt-det balance``."""
    found = [
        (method.name, run.balance)
        for method in material.all_methods
        for run in method.runs
        if run.balance is not None
    ]
    return [_balance(content, name, place) for place, (name, content) in enumerate(found)]


def _balance(content: Mapping[str, Any], name: str, place: int) -> Section:
    start, chosen = content.get("start") or {}, content.get("chosen") or {}
    rows = [row for row in content["candidates"] if isinstance(row, dict)]
    rows.sort(key=lambda row: (row != start, row != chosen))  # these two first
    levels = [level for level in _LEVELS if any(row.get("level") == level for row in rows)]
    gains = []
    for metric, gain in (content.get("cross_fitted_gain") or {}).items():
        low, high = gain["interval_95"]
        gains.append(f"{metric} {gain['points']:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "−"))
    texts = [f"Chosen by {content.get('objective')}: {_words(chosen)}. Start: {_words(start)}."]
    if "NMS" in start:
        texts.append("All of these are AP of boxes.")
    if gains:
        texts.append(
            f"Gain on images that were not chosen on (cross-fitted, 95 %): {', '.join(gains)}."
        )
    texts += [str(note) for note in content.get("notes") or []]
    texts += _through_the_model(content.get("evaluated") or {})
    limits = {k: d for k, d in {"score threshold": 4, "NMS": 2}.items() if k in start}
    metrics = _metrics(start)
    header = ["candidate", "level", *map(NumberHead, (*limits, *metrics))]
    table = [
        [
            Cell(str(row.get("candidate")), kind="long"),
            str(row.get("level")),
            *(number_cell(_number(row, limit), digits) for limit, digits in limits.items()),
            *(number_cell(_number(row, m)) for m in metrics),
        ]
        for row in rows
    ]
    strong = [i for i, row in enumerate(rows) if row in (start, chosen)]
    return Section(
        f"What balance tried: {name}",
        texts,
        header,
        table,
        anchor=f"balance-{place}",
        short="Balance",
        charts=[_front(rows, levels, start, chosen)],
        sortable=True,
        search="a candidate",
        strong=strong,
    )


def _front(
    rows: Sequence[Mapping[str, Any]],
    levels: Sequence[str],
    start: Mapping[str, Any],
    chosen: Mapping[str, Any],
) -> Any:
    _, rare, _, frequent = _metrics(start)
    points = [(row, _number(row, frequent), _number(row, rare)) for row in rows]
    points = [p for p in points if math.isfinite(p[1]) and math.isfinite(p[2])]
    chart = Chart(
        Axis.around([x for _, x, _ in points], f"{frequent}: frequent classes"),
        Axis.around([y for *_, y in points], f"{rare}: rare classes"),
        name=f"{rare} against {frequent} of all candidates",
        height=330,
    )
    front, best = [], -math.inf
    for _, x, y in sorted(points, key=lambda p: (-p[1], -p[2])):
        if y > best:
            front.append((x, y))
            best = y
    chart.line(
        [x for x, _ in front], [y for _, y in front], "s0", kind="thin", dashes="4 3", title="front"
    )
    for row, x, y in points:
        level = levels.index(row["level"]) if row.get("level") in levels else 0
        chart.point(
            x, y, colour_of(level), shape=shape_of(level), size=3.4, faint=True, title=_words(row)
        )
    for row, words in ((start, "start"), (chosen, "chosen")):
        x, y = _number(row, frequent), _number(row, rare)
        if math.isfinite(x) and math.isfinite(y):
            level = levels.index(row["level"]) if row.get("level") in levels else 0
            chart.point(x, y, colour_of(level), shape=shape_of(level), size=6.5, title=_words(row))
            right = chart.x(x) > 380
            chart.text(
                chart.x(x) + (-10 if right else 10),
                chart.y(y) + 4,
                words,
                anchor="end" if right else "start",
            )
    legend = [(colour_of(i), shape_of(i), level) for i, level in enumerate(levels)]
    return chart.html(
        caption="Each point is a candidate. None is better in both than those on the dashed front.",
        legend=legend,
    )


def _words(row: Mapping[str, Any]) -> str:
    limits = f" (score {row.get('score threshold')}, NMS {row['NMS']})" if "NMS" in row else ""
    figures = ", ".join(
        f"{m} {_number(row, m):.1f}" for m in _metrics(row) if math.isfinite(_number(row, m))
    )
    return f"{row.get('candidate')}{limits}: {figures}"


def _metrics(row: Mapping[str, Any]) -> Sequence[str]:
    """Return the mean over all classes, then the groups, rare first."""
    return _ACCURACIES if "mean_class" in row else _METRICS


def _through_the_model(evaluated: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each task that start and result were evaluated in."""
    start, balanced = (evaluated.get(which) or {} for which in ("start", "balanced"))
    texts = []
    for task in start:
        figures = ", ".join(
            f"{m} {_number(start[task], m):.1f} to {_number(balanced.get(task, {}), m):.1f}"
            for m in _metrics(start[task])
        )
        texts.append(f"Through the whole model, {task}, start to result: {figures}.")
    return texts


def _number(row: Mapping[str, Any], key: str) -> float:
    value = row.get(key)
    return float(value) if isinstance(value, (int, float)) else math.nan
