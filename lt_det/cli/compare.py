"""``lt-det compare``: whether two runs on the same test set differ by more than luck.

lt-det compare output/cross_entropy output/balms
lt-det compare output/cross_entropy output/balms --iou-type segm --output comparison/

AP and AP50 of all classes and of rare, common and frequent ones, and the difference with an
interval from resampled images, the same for both runs. A run is its folder, the folder of its
results, or a matches_{bbox,segm}.npz there; an evaluation with its analysis on writes that.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence

from tabulate import tabulate

from lt_det.data.stats.frequency_groups import GROUP_NAMES
from lt_det.evaluation.analysis.comparison import Comparison, compare_runs, matches_file
from lt_det.evaluation.lvis.average_precision import IOU_TYPES
from lt_det.shown_text import for_terminal
from lt_det.storage.writable_folder import check_writable_folder


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="lt-det compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="RUN_A", help="folder of a run or of its results")
    parser.add_argument("b", metavar="RUN_B", help="likewise")
    parser.add_argument(
        "--iou-type", nargs="+", choices=IOU_TYPES, help="default: what both runs have"
    )
    parser.add_argument("--resamples", type=int, default=1000, help="of the images")
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples")
    parser.add_argument("--output", help="folder for comparison_{bbox,segm}.{json,csv}")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare and print the tables."""
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    if args.output:
        check_writable_folder(args.output)
    for iou_type in args.iou_type or _common_types(args.a, args.b):
        comparison = compare_runs(
            args.a,
            args.b,
            iou_type=iou_type,
            resamples=args.resamples,
            confidence=args.confidence,
            seed=args.seed,
        )
        if args.output:
            comparison.write(args.output)
        print(text_of(comparison))


def text_of(comparison: Comparison) -> str:
    """Return the table of a comparison."""
    rows = [
        [
            GROUP_NAMES.get(row["group"], row["group"]),
            *(_shown(row[column]) for column in ("metric", "a", "b", "difference")),
            f"{_shown(row['low'])} to {_shown(row['high'])}",
            row["verdict"],
        ]
        for row in comparison.rows
    ]
    headers = [
        *("classes", "metric", "a", "b", "b - a"),
        *(f"{100 * comparison.confidence:g} % interval", ""),
    ]
    table = tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)
    return (
        f"{comparison.iou_type}: {comparison.images} images, {comparison.resamples} resamples\n"
        f"a: {for_terminal(comparison.a)}\nb: {for_terminal(comparison.b)}\n{table}\n"
    )


def _shown(value: object) -> object:
    if not isinstance(value, float):
        return value
    return f"{value:.2f}" if math.isfinite(value) else ""


def _common_types(a: str, b: str) -> list[str]:
    """Return the kinds that both runs have; boxes where they have none, for its message."""
    types = []
    for iou_type in IOU_TYPES:
        try:
            matches_file(a, iou_type), matches_file(b, iou_type)
        except FileNotFoundError:
            continue
        types.append(iou_type)
    return types or ["bbox"]
