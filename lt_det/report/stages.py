"""Tabulate the results of several stages, with the paths of their files."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from pathlib import Path

from tabulate import tabulate

from lt_det.report.runs import CLASSIFICATION_METRICS, DEFAULT_METRICS
from lt_det.report.sweep_table import read_results


def stages_report(folders: Mapping[str, str]) -> str:
    """Return a table of AP, APr, APc and APf of each stage, and under it the paths of its files.

    Image classification has top-1, many, medium and few instead. A stage without results.json has
    a row without numbers.

    Args:
        folders: name of a stage -> its OUTPUT_DIR.
    """
    rows: list[list[str]] = []
    metrics: tuple[str, ...] = DEFAULT_METRICS
    for name, folder in folders.items():
        try:
            results = read_results(Path(folder))
        except FileNotFoundError:
            results = {}
        tasks = sorted({key.partition("/")[0] for key in results})
        if tasks == ["classification"]:
            metrics = CLASSIFICATION_METRICS
        for task in tasks or ["not evaluated"]:
            values = [results.get(f"{task}/{metric}") for metric in metrics]
            rows.append([name, task, *("" if v is None else f"{v:.2f}" for v in values)])
    header = ["stage", "task", *metrics]
    lines = [tabulate(rows, header, tablefmt="github", disable_numparse=True), ""]
    for name, folder in folders.items():
        csv = os.path.join(glob.escape(folder), "inference", "**", "per_category_*.csv")
        files = [os.path.join(folder, "model_final.pth"), *sorted(glob.glob(csv, recursive=True))]
        lines += [f"{name}: {path}" for path in files if os.path.isfile(path)]
    return "\n".join(lines)
