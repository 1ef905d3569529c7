"""Draw the figures of groups, and differences to the first method, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lt_det.report.run_page.figures import Difference, figures_of, interval_of, legend_of
from lt_det.report.run_page.material import Material
from lt_det.report.svg import Axis, colour_of, element, figure, marker, shape_of, tick_text

_CROSSING = " A line that crosses 0: no difference can be shown."
_GROUPS = {"all": "all", "r": "rare", "c": "common", "f": "frequent"}


def group_chart(material: Material) -> Any:
    """Return a chart of the figures of all groups."""
    task, rows, every = material.task or "", [], [0.0]
    for metric, group in material.metrics.items():
        points = []
        for method in material.methods:
            value = method.mean(task, metric)
            interval = interval_of(method, task, group)
            low, high = interval or (math.nan, math.nan)
            values = figures_of(method, task, metric)
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
        f"{what} of groups",
        rows,
        Axis(0, max(every) * 1.08 or 1.0, what),
        caption=f"{material.what[:1].upper()}{material.what[1:]} by group{whiskers}.",
        legend=legend_of(material.methods),
        zero=False,
    )


def difference_chart(material: Material, differences: Sequence[Difference]) -> Any:
    """Return a chart of the differences to the first method."""
    rows, every = [], [0.0]
    for metric, group in material.metrics.items():
        points = []
        for method in material.methods[1:]:
            for one in differences:
                if one.method == method.name and one.metric == metric:
                    every += [v for v in (one.value, one.low, one.high) if math.isfinite(v)]
                    who = f"{method.name}, seed {one.seed}" if one.seed else method.name
                    title = f"{who}: {metric} {one.value:+.1f}"
                    points.append((method.place, one.value, one.low, one.high, title))
        rows.append((_row_name(metric, group), points))
    base = material.methods[0].name
    has_lines = any(math.isfinite(one.low) for one in differences)
    axis = Axis.around(every, f"points of {material.what} above {base}")
    return _rows_chart(
        f"difference to {base}",
        rows,
        axis,
        caption=f"Difference to {base}.{_CROSSING * has_lines}",
        legend=legend_of(material.methods[1:]),
        zero=True,
    )


def _rows_chart(
    name: str,
    rows: Sequence[tuple[str, Sequence[tuple[int, float, float, float, str]]]],
    axis: Axis,
    *,
    caption: str,
    legend: Any,
    zero: bool,
) -> Any:
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


def _whiskers(material: Material) -> str:
    words = []
    if any(interval_of(m, material.task, "all") for m in material.methods):
        words.append("are 95 % intervals")
    if any(len(m.evaluations(material.task or "")) > 1 for m in material.methods):
        words.append("reach from the lowest to the highest seed")
    ends = (" of single runs, and ", " of several") if len(words) > 1 else ("", "")
    return f". Lines {words[0]}{ends[0]}{''.join(words[1:])}{ends[1]}" if words else ""


def _row_name(metric: str, group: str) -> str:
    return {"AP": "all", "top1": "all"}.get(
        metric, _GROUPS[group] if metric.startswith("AP") else metric
    )
