"""``lt-det report``: one html page about evaluated runs, and the numbers as csv and json.

lt-det report output/balms
lt-det report output/finetune output/balms --output report
lt-det report "plain=output/a" "ours=output/b0" "ours=output/b1"
lt-det report detectron2_output --ground-truth val.json --train-json train.json --images photos

A run is its OUTPUT_DIR: of lt_det, of Detectron2 with the detections of an evaluation, or of
lt-det balance. Others are compared to the first. Runs of one name, or of configs that differ in
their seeds only, are seeds of one method. The page holds all it shows and opens from the disk.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from lt_det.report.run_page.writing import PageOptions, save_run_page
from lt_det.shown_text import for_terminal


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="lt-det report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="[NAME=]RUN", help="folder of a run")
    parser.add_argument("--output", default="report", metavar="DIR", help="default: report")
    parser.add_argument(
        "--task", choices=("segm", "bbox", "classification"), help="default: masks before boxes"
    )
    parser.add_argument("--dataset", metavar="NAME", help="test set, where runs have several")
    parser.add_argument(
        "--ground-truth", metavar="VAL.json", help="default: what a run's config registers"
    )
    parser.add_argument("--images", metavar="DIR", help="images of the test set")
    parser.add_argument(
        "--train-json", metavar="TRAIN.json", help="class counts (default: of the checkpoint)"
    )
    parser.add_argument("--no-pictures", action="store_true", help="leave the images out")
    parser.add_argument(
        "--no-evaluation",
        action="store_true",
        help="do not evaluate detections for intervals, confusion and calibration",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page and say where it is."""
    args = parse_arguments(arguments)
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr
    )
    options = PageOptions(
        task=args.task,
        dataset=args.dataset,
        ground_truth=args.ground_truth,
        images=args.images,
        train_json=args.train_json,
        pictures=not args.no_pictures,
        evaluate=not args.no_evaluation,
        defaults=_defaults() if len(args.runs) > 1 else {},
    )
    for path in save_run_page([_named(word) for word in args.runs], args.output, options):
        size = os.path.getsize(path)
        print(for_terminal(f"{path} ({size / 2**20:.1f} MiB)" if size > 2**20 else path))


def _defaults() -> Mapping[str, Any]:
    """Return a config at its defaults, {} without Detectron2."""
    try:
        from lt_det.api import load_config

        return yaml.safe_load(load_config().dump())
    except ImportError:
        return {}


def _named(word: str) -> tuple[str | None, str]:
    """Return name and folder; a folder that has a = in its own name stays one."""
    name, sign, folder = word.partition("=")
    return (name, folder) if sign and name and not os.path.isdir(word) else (None, word)
