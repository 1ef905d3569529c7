"""Say first what a reader wants first: the figures of groups, and who is better in what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lt_det.report.page import number_cell
from lt_det.report.run_page.figures import Difference, figures_of, interval_of
from lt_det.report.run_page.material import Material
from lt_det.report.svg import escaped

_WORDS = {"all": "all classes", "r": "rare classes", "c": "common classes", "f": "frequent classes"}
# The bounds of an interval are rounded to it, so 0.0 is neither above nor below.
_DIGITS = 1


def headline(material: Material, differences: Sequence[Difference]) -> list[Any]:
    """Return a tile for each group of classes, [] without an evaluation."""
    from markupsafe import Markup

    if not material.methods:
        return []
    tiles = [
        _tile(material, metric, group, [d for d in differences if d.metric == metric])
        for metric, group in material.metrics.items()
    ]
    return [Markup(f"<div class='tiles'>{''.join(tiles)}</div>")]  # noqa: S704 - escaped below


def _tile(material: Material, metric: str, group: str, found: Sequence[Difference]) -> str:
    rows = []
    for method in material.methods:
        values = figures_of(method, material.task, metric)
        value = number_cell(float(np.mean(values)) if values else None).text
        own = [d for d in found if d.method == method.name]
        kind, words = _against(own)
        if method is material.methods[0]:
            bounds = interval_of(method, material.task, group) if len(values) == 1 else None
            words = f"[{bounds[0]:.1f}, {bounds[1]:.1f}]" if bounds else ""
            words = f"± {np.std(values, ddof=1):.1f}" if len(values) > 1 else words
        rows.append(
            f"<p>{escaped(method.name)}<br><b>{value}</b> "
            f"<span class='{kind}'>{escaped(words)}</span></p>"
        )
    named = metric.startswith("AP") or group == "all"
    title = f"{metric}: {_WORDS[group]}" if named else f"{metric} classes"
    return f"<div class='tile'><h2>{escaped(title)}</h2>{''.join(rows)}</div>"


def _against(own: Sequence[Difference]) -> tuple[str, str]:
    """Return the class of the style sheet, and the difference to the first method in words."""
    values = [d.value for d in own if math.isfinite(d.value)]
    if not values:
        return "quiet", ""
    text = number_cell(float(np.mean(values)), _DIGITS, sign=True).text
    if len(values) > 1:
        text += f" ± {np.std(values, ddof=1):.1f}"
    elif math.isfinite(own[0].low):
        text += f" [{_signed(own[0].low)}, {_signed(own[0].high)}]"
    verdicts = {d.verdict for d in own}
    if verdicts == {"higher"}:
        return "up", text
    if verdicts == {"lower"}:
        return "down", text
    return "quiet", text + ("" if verdicts == {""} else ": no difference can be shown")


def _signed(value: float) -> str:
    return number_cell(value, _DIGITS, sign=True).text
