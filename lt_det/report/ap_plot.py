"""Plot AP against class frequency, one line for each method, and the difference to one below."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.stats.class_stats import ClassStats
from lt_det.report.figure_file import save_figure
from lt_det.report.runs import TASK_NAMES, Run
from lt_det.shown_text import for_plot

# Okabe and Ito's colours, and shapes: told apart without seeing colours, and under each other.
_COLOURS = ("#5f676d", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osD^vPX"
# Factor between the places of two methods at the same frequency, so that none hides another.
_ASIDE = 1.035


def save_ap_plot(
    stats: ClassStats,
    runs: Mapping[str, Sequence[Run]],
    path: str | os.PathLike[str],
    *,
    task: str = "segm",
    num_bins: int = 8,
    baseline: str | None = None,
) -> None:
    """Draw the mean AP of classes of similar frequency over their training images.

    Classes are sorted by training images and cut into bins of equally many classes. A line is the
    mean over the runs of a method, a band reaches from its lowest to its highest run. With several
    methods their differences to one of them, run by run, are below.

    Args:
        stats: of the training set.
        runs: method -> its runs, of all methods in the same order of seeds.
        path: picture file, written whole or not at all.
        task: "bbox" or "segm".
        num_bins: points of a line.
        baseline: method that differences are taken to; None takes the first.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullFormatter

    counts = dict(zip(stats.class_names, stats.counts("image")))
    num_bins = min(num_bins, stats.num_classes)
    base = baseline if baseline is not None else next(iter(runs))
    panels = 2 if len(runs) > 1 else 1
    figure = Figure(figsize=(7.2, 4.2 if panels == 1 else 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    ratios = [3, 2][:panels]
    grid = {"height_ratios": ratios}  # the argument of subplots is from matplotlib 3.6
    all_axes = figure.subplots(panels, 1, sharex=True, squeeze=False, gridspec_kw=grid)[:, 0]
    curves = {}
    for name, method_runs in runs.items():
        images = np.array([counts[c["name"]] for c in method_runs[0].categories[task]])  # >= 1
        bins = np.array_split(np.argsort(images, kind="stable"), num_bins)
        x = np.array([np.exp(np.log(images[b]).mean()) for b in bins])
        curves[name] = x, np.array([_means(run, task, bins) for run in method_runs])
    middle = (len(runs) - 1) / 2
    for place, (name, (x, values)) in enumerate(curves.items()):
        x = x * _ASIDE ** (place - middle)
        _draw(all_axes[0], x, values, place, name)
        of_base = curves[base][1]
        if panels > 1 and name == base:
            all_axes[1].axhline(0, color=_COLOURS[place % len(_COLOURS)], linewidth=1.2)
        elif panels > 1:
            paired = values.shape == of_base.shape
            differences = values - of_base if paired else values - of_base.mean(axis=0)
            _draw(all_axes[1], x, differences, place, "")
    for axes in all_axes:
        for limit in (stats.rare_max, stats.common_max):
            axes.axvline(limit + 0.5, color="grey", linewidth=0.8, linestyle=":")
        axes.grid(axis="y", color="#e4e6e8", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0].set(xscale="log", ylabel=f"{TASK_NAMES[task]} AP", ylim=(0, None))
    low, high = all_axes[0].get_xlim()
    ticks = [s * 10**p for p in range(6) for s in (1, 3) if low <= s * 10**p <= high]
    all_axes[-1].xaxis.set_major_locator(FixedLocator(ticks))
    all_axes[-1].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    all_axes[-1].xaxis.set_minor_formatter(NullFormatter())
    if panels > 1:
        all_axes[1].set_ylabel(f"points above\n{for_plot(base)}")
    size = stats.num_classes // num_bins
    all_axes[-1].set_xlabel(f"training images of the class (bins of {size} classes)")
    for limit, word in ((stats.rare_max, "rare "), (stats.common_max, "common ")):
        corner = (limit + 0.5, 1.0)
        across = all_axes[0].get_xaxis_transform()
        all_axes[0].text(
            *corner, word, transform=across, ha="right", va="top", fontsize=8, color="grey"
        )
    all_axes[0].legend(frameon=False)
    save_figure(figure, path, dpi=120)


def _draw(axes: Any, x: np.ndarray, values: np.ndarray, place: int, label: str) -> None:
    """Draw the mean of runs with a marker at each bin, and a band over the runs."""
    colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
    if len(values) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    style = {"marker": marker, "markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.6}
    axes.plot(x, values.mean(axis=0), color=colour, label=for_plot(label) or None, **style)


def _means(run: Run, task: str, bins: Sequence[np.ndarray]) -> list[float]:
    """Return the mean AP of each bin, NaN where no class of it has an AP."""
    records = run.categories[task]
    aps = np.array([np.nan if c["AP"] is None else c["AP"] for c in records], dtype=float)
    return [float(np.nanmean(aps[b])) if np.isfinite(aps[b]).any() else np.nan for b in bins]
