"""Draw AP against the frequency of classes, and below it the difference to the first method."""

from __future__ import annotations

import numpy as np

from lt_det.report.page import Section
from lt_det.report.run_page.figures import legend_of
from lt_det.report.run_page.material import Material
from lt_det.report.smoothing import Smooth, smooth
from lt_det.report.svg import Axis, Chart, colour_of, shape_of

# Points of classes; more would hide each other, and make the page heavy.
_MOST_POINTS = 6000


def against_frequency(material: Material) -> Section:
    """Return the part of the page."""
    title, anchor, short = (
        f"{_upper(material.what)} against class frequency",
        "frequency",
        "Frequency",
    )
    counts, figures = material.counts, material.figures
    if not np.isfinite(counts).any():
        return Section(
            title,
            anchor=anchor,
            short=short,
            missing=["The classes' training images are not known: give --train-json TRAIN.json."],
        )
    charts = [_values(material, counts, figures)]
    if len(figures) > 1:
        charts.append(_differences(material, counts, figures))
    return Section(
        title,
        [
            "Each point is a class; point at it for its name. The line is a mean of the classes "
            "around (Gaussian over the logarithm of training images), the band a 95 % bootstrap "
            "over classes."
        ],
        anchor=anchor,
        short=short,
        charts=charts,
    )


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _values(material: Material, counts: np.ndarray, figures: np.ndarray) -> object:
    axis = Axis.around(counts, "training images of the class", log=True)
    high = max(float(np.nanmax(figures)) if np.isfinite(figures).any() else 1.0, 1.0)
    chart = Chart(
        axis,
        Axis(0, high * 1.04, f"{material.what} in percent"),
        name=f"{material.what} against training images",
        height=320,
    )
    _limits(chart, material)
    if figures.size <= _MOST_POINTS:
        for method, row in zip(material.methods, figures):
            for one, count, value in zip(material.classes, counts, row):
                title = (
                    f"{one.name}: {value:.1f}, {one.train_images} training images ({method.name})"
                )
                chart.point(
                    count,
                    value,
                    colour_of(method.place),
                    title=title,
                    shape=shape_of(method.place),
                    size=2.4,
                    faint=True,
                )
    _curves(chart, material, smooth(counts, figures), range(len(figures)))
    return chart.html(
        caption=f"{_upper(material.what)} of each class.", legend=legend_of(material.methods)
    )


def _differences(material: Material, counts: np.ndarray, figures: np.ndarray) -> object:
    differences = figures[1:] - figures[:1]
    curves = smooth(counts, differences)
    base = material.methods[0].name
    shown = [0.0] if curves is None else [*curves.low.ravel(), *curves.high.ravel(), 0.0]
    chart = Chart(
        Axis.around(counts, "training images of the class", log=True),
        Axis.around(shown, f"points above {base}"),
        name=f"difference to {base} against training images",
        height=320,
    )
    _limits(chart, material)
    chart.across(0)
    _curves(chart, material, curves, range(1, len(figures)))
    return chart.html(
        caption=f"Difference to {base}. Where the band holds 0, no difference can be shown.",
        legend=legend_of(material.methods[1:]),
    )


def _curves(chart: Chart, material: Material, curves: Smooth | None, rows: range) -> None:
    if curves is None:
        return
    for place, row in enumerate(rows):
        colour = colour_of(material.methods[row].place)
        chart.band(curves.counts, curves.low[place], curves.high[place], colour)
    for place, row in enumerate(rows):
        method = material.methods[row]
        chart.line(curves.counts, curves.values[place], colour_of(method.place), title=method.name)
        # Points of the line, so that the methods are told apart without colour.
        some = range(4 + 3 * row % 7, len(curves.counts), 12)
        for at in some:
            chart.point(
                curves.counts[at],
                curves.values[place][at],
                colour_of(method.place),
                shape=shape_of(method.place),
                size=4.5,
                title=method.name,
            )


def _limits(chart: Chart, material: Material) -> None:
    if material.stats is not None:
        chart.upright(material.stats.rare_max + 0.5, "rare")
        chart.upright(material.stats.common_max + 0.5, "common", "frequent")
