"""Plot learned class weights against class frequency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lt_det.data.stats.class_stats import ClassStats
from lt_det.data.stats.frequency_groups import GROUP_NAMES
from lt_det.report.class_stats_plot import GROUP_COLOURS
from lt_det.report.figure_file import save_figure


def save_class_weights_plot(
    stats: ClassStats, weights: Sequence[float], path: str, *, what: str = "weight"
) -> None:
    """Draw each class's weight over its training images (log axis) into an image file.

    Args:
        stats: of the training set.
        weights: ``(K,)``, mean 1.
        path: its ending says the format; written whole or not at all.
        what: "weight", or "rate" of a sampler.
    """
    # Without pyplot: no global state, no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    counts, values = stats.counts("image"), np.asarray(weights)
    for group, members in stats.group_members().items():
        if len(members):
            axes.scatter(
                counts[members],
                values[members],
                s=14,
                color=GROUP_COLOURS[group],
                label=f"{GROUP_NAMES[group]} (mean {values[members].mean():.3f})",
            )
    axes.axhline(1.0, color="grey", linewidth=0.8)
    axes.set(xscale="log", xlabel="training images of the class", ylabel=f"learned {what} / mean")
    axes.legend(frameon=False)
    save_figure(figure, path, dpi=120)
