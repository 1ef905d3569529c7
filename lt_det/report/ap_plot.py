"""Plot AP against class frequency, one line for each method."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from lt_det.data.stats.class_stats import ClassStats
from lt_det.report.figure_file import save_figure
from lt_det.report.runs import TASK_NAMES, Run
from lt_det.shown_text import for_plot


def save_ap_plot(
    stats: ClassStats,
    runs: Mapping[str, Sequence[Run]],
    path: str | os.PathLike[str],
    *,
    task: str = "segm",
    num_bins: int = 8,
) -> None:
    """Draw the mean AP of classes of similar frequency over their training images.

    Classes are sorted by training images and cut into bins of equally many classes; runs of a
    method are averaged.

    Args:
        stats: of the training set.
        runs: method -> its runs.
        path: picture file, written whole or not at all.
        task: "bbox" or "segm".
        num_bins: points of a line.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = dict(zip(stats.class_names, stats.counts("image")))
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    num_bins = min(num_bins, stats.num_classes)
    for name, method_runs in runs.items():
        aps = np.array(
            [[_or_nan(c["AP"]) for c in run.categories[task]] for run in method_runs], dtype=float
        ).mean(axis=0)
        images = np.array([counts[c["name"]] for c in method_runs[0].categories[task]])  # >= 1
        bins = np.array_split(np.argsort(images, kind="stable"), num_bins)
        x = [np.exp(np.log(images[b]).mean()) for b in bins]
        y = [np.nanmean(aps[b]) if np.isfinite(aps[b]).any() else np.nan for b in bins]
        axes.plot(x, y, marker="o", markersize=4, label=for_plot(name))
    for limit in (stats.rare_max, stats.common_max):
        axes.axvline(limit + 0.5, color="grey", linewidth=0.8, linestyle=":")
    axes.set(
        xscale="log",
        xlabel=f"training images of the class (bins of {stats.num_classes // num_bins} classes)",
        ylabel=f"{TASK_NAMES[task]} AP",
        ylim=(0, None),
    )
    axes.legend(frameon=False)
    save_figure(figure, path, dpi=120)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
