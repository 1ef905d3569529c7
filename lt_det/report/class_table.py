"""Tabulate the worst and best classes of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from lt_det.shown_text import for_terminal

_TITLES = {
    "num_train_images": "train images",
    "num_gt_instances": "test objects",
    "num_test_images": "test images",
}


def worst_and_best_table(
    categories: Sequence[Mapping[str, Any]],
    *,
    metric: str,
    train_images: Mapping[str, int] | None = None,
    rows: int = 10,
) -> str:
    """Return a table of the classes with the lowest and the highest value of a metric.

    Classes without a value are left out and counted below.

    Args:
        categories: records of :class:`~lt_det.report.runs.Run`.
        metric: "AP" or "accuracy", in percent.
        train_images: class name -> training images.
        rows: from either end.
    """
    defined = [c for c in categories if c[metric] is not None]
    order = sorted(defined, key=lambda c: (c[metric], c["name"]))
    shown = order if len(order) <= 2 * rows else [*order[:rows], None, *order[-rows:]]
    table: list[list[object]] = []
    keys = [key for key in ("num_train_images", *_TITLES) if categories and key in categories[0]]
    keys = list(dict.fromkeys(keys))
    for one in shown:
        if one is None:
            gap: list[object] = [f"{len(order) - 2 * rows} between"]
            table.append([*gap, *[""] * (2 + len(keys) + (train_images is not None))])
            continue
        cells: list[object] = [for_terminal(str(one["name"])), one.get("group")]
        if train_images is not None:
            cells.append(train_images.get(one["name"]))
        table.append([*cells, *(one[key] for key in keys), f"{one[metric]:.1f}"])
    header = ["class", "group"]
    header += ["train images"] if train_images is not None else []
    text = tabulate(
        table,
        [*header, *(_TITLES[key] for key in keys), metric],
        tablefmt="github",
        disable_numparse=[0],
    )
    without = len(categories) - len(defined)
    return text + (f"\n{without} classes have no test object, so no {metric}" if without else "")
