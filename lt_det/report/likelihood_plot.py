"""Plot the probability of the right class, as Fig. 4 and 5 of the Eureka paper."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

import numpy as np

from lt_det.report.figure_file import save_figure
from lt_det.shown_text import for_plot
from lt_det.storage.regular_file import open_regular


def save_likelihood_plot(folders: Mapping[str, str], path: str | os.PathLike[str]) -> None:
    """Draw histograms of the probability of the right class, a panel a group, a line a run.

    Args:
        folders: name of a run, or of a data set -> its evaluation folder, which holds
            ``likelihood.json``.
        path: picture file, written whole or not at all.

    Raises:
        FileNotFoundError: if a run was not evaluated.
        ValueError: if there is no run.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not folders:
        raise ValueError("folders must name at least one run")
    runs = {name: _read(folder) for name, folder in folders.items()}
    first = next(iter(runs.values()))
    groups = [name for name, images in first["num_images"].items() if images]
    figure = Figure(figsize=(3.2 * len(groups), 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, group in zip(panels, groups):
        for name, run in runs.items():
            shares = np.array(run["share_of_images"][group], dtype=float)
            axes.stairs(shares, np.linspace(0, 1, len(shares) + 1), label=for_plot(name))
        axes.set(title=for_plot(group), xlabel="probability of the right class", xlim=(0, 1))
    # Not before all is drawn: it fixes the upper end too.
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("share of images")
    panels[-1].legend(frameon=False)
    save_figure(figure, path, dpi=120)


def _read(folder: str) -> dict:
    path = os.path.join(folder, "likelihood.json")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no {path}: evaluate the run with lt-det evaluate")
    with open_regular(path, "r", encoding="utf-8") as file:
        return json.load(file)
