"""Plot the long tail of a data set: classes sorted by count, coloured by group."""

from __future__ import annotations

import os

import numpy as np

from lt_det.data.stats.class_stats import ClassStats, Unit
from lt_det.data.stats.frequency_groups import GROUP_NAMES
from lt_det.report.figure_file import save_figure
from lt_det.shown_text import for_plot

# Distinguishable also by readers who do not tell red from green (Okabe and Ito's palette).
GROUP_COLOURS = {"r": "#D55E00", "c": "#E69F00", "f": "#0072B2"}

# From this number of classes on, their names would overlap.
_MAX_NAMED = 60


def plot_long_tail(
    stats: ClassStats, path: str | os.PathLike[str], *, unit: Unit = "image"
) -> None:
    """Write a bar chart of the class counts, most frequent left, on a logarithmic axis.

    Classes without an image have no bar, as 0 has no logarithm; the legend counts them.

    Args:
        stats: of the data set.
        path: picture file; the ending decides the format. Written atomically.
        unit: height of the bars, images or instances. The colours are always by images.

    Raises:
        ImportError: without matplotlib; names the extra that brings it.
        ValueError: for another unit.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
        from matplotlib.ticker import ScalarFormatter
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'lt_det[demo]'") from error

    stats.counts(unit)  # refuses an unknown unit
    counts = np.asarray(stats.image_counts if unit == "image" else stats.instance_counts)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))

    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    handles = []
    for group, members in stats.group_members().items():
        num_empty = int((counts[members] == 0).sum())
        label = f"{GROUP_NAMES[group]}: {len(members)} classes"
        axes.bar(
            rank[members],
            counts[members],
            width=1.0 if stats.num_classes > _MAX_NAMED else 0.8,
            color=GROUP_COLOURS[group],
        )
        label += f", {num_empty} without an image" if num_empty else ""
        # Not the bars' own handle: a group without classes has none, yet belongs in the legend.
        handles.append(Patch(color=GROUP_COLOURS[group], label=label))
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(bottom=0.5)  # below 1, so that a count of 1 is seen
    axes.set_xlim(-0.5, stats.num_classes - 0.5)
    axes.set_ylabel("images with the class" if unit == "image" else "instances of the class")
    axes.set_xlabel(f"{stats.num_classes} classes, most frequent first")
    axes.set_title(f"{for_plot(stats.name)}: {sum(stats.instance_counts)} instances")
    axes.legend(handles=handles)
    if stats.num_classes <= _MAX_NAMED:
        names = [for_plot(stats.class_names[i]) for i in order]
        axes.set_xticks(range(len(order)), names, rotation=90)
    save_figure(figure, path, dpi=120)
