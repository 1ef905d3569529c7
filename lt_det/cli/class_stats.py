"""``lt-det class-stats``: count the classes of a data set, print the table, draw the long tail.

A data set registered with Detectron2 (built-in ones under ``$DETECTRON2_DATASETS``)::

    lt-det class-stats lvis_v1_train

A COCO- or LVIS-format json that is not registered; needs no Detectron2::

    lt-det class-stats --json annotations/train.json
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from lt_det.data.stats.class_stats import ClassStats
from lt_det.data.stats.frequency_groups import GROUP_NAMES
from lt_det.data.stats.stats_cache import class_stats_of_json, write_class_stats
from lt_det.report.class_stats_plot import plot_long_tail
from lt_det.shown_text import for_terminal


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="lt-det class-stats",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", nargs="*", help="registered name(s); several are added up")
    parser.add_argument(
        "--json", help="count this json instead; DATASET, if given, is then only its name"
    )
    parser.add_argument(
        "--image-root", default="", help="with --json: also check that the images are there"
    )
    parser.add_argument("--output", default=".", help="folder for class_stats.json, long_tail.png")
    parser.add_argument(
        "--count-source",
        choices=["auto", "annotations", "categories"],
        default="auto",
        help="count, or take the numbers in the categories of an LVIS json (default: auto, those "
        "if the file is a subset of what they count)",
    )
    parser.add_argument(
        "--unit", choices=["image", "instance"], default="image", help="of the plot"
    )
    parser.add_argument("--rare-max", type=int, default=10, help="most images of a rare class")
    parser.add_argument("--common-max", type=int, default=100, help="most of a common class")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--top", type=int, default=10, help="rows from either end (default 10)")
    rows.add_argument("--all", action="store_true", help="a row for every class")
    arguments_ = parser.parse_args(arguments)
    if arguments_.json and len(arguments_.dataset) > 1:
        parser.error("--json counts one data set, give it one name")
    if arguments_.json and not arguments_.dataset:
        arguments_.dataset = [Path(arguments_.json).stem]
    if not arguments_.dataset:
        parser.error("name a registered data set, or a file with --json")
    if arguments_.image_root and not arguments_.json:
        parser.error("--image-root goes with --json")
    return arguments_


def main(arguments: list[str] | None = None) -> None:
    """Count, print, write."""
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    stats = _count(args)
    print(group_table(stats))
    print()
    print(class_table(stats, top=None if args.all else args.top))
    output = Path(args.output)
    write_class_stats(stats, output / "class_stats.json")
    plot_long_tail(stats, output / "long_tail.png", unit=args.unit)
    print(f"\nWrote {output / 'class_stats.json'} and {output / 'long_tail.png'}")


def group_table(stats: ClassStats) -> str:
    """Return classes, images and instances of each frequency group as text."""
    rows = []
    for group, members in stats.group_members().items():
        images = [stats.image_counts[i] for i in members]
        rows.append(
            [
                f"{GROUP_NAMES[group]} ({group})",
                len(members),
                f"{min(images)} - {max(images)}" if images else "-",
                sum(stats.instance_counts[i] for i in members),
                sum(count == 0 for count in images),
            ]
        )
    rows.append(
        [
            "all",
            stats.num_classes,
            f"{min(stats.image_counts)} - {max(stats.image_counts)}",
            sum(stats.instance_counts),
            len(stats.zero_count_classes),
        ]
    )
    source = {
        "annotations": "counted",
        "categories": "declared by the json's categories; number of images estimated",
    }[stats.source]
    header = f"{for_terminal(stats.name)}: {stats.num_images} images with annotations ({source})"
    columns = ["group", "classes", "images of a class", "instances", "classes without images"]
    return f"{header}\n{tabulate(rows, headers=columns, tablefmt='github')}"


def class_table(stats: ClassStats, *, top: int | None) -> str:
    """Return one row for each class, most images first; the middle left out if top is given."""
    order = sorted(range(stats.num_classes), key=lambda i: (-stats.image_counts[i], i))
    groups = stats.frequency_groups
    rows: list[list[object]] = [
        [
            i,
            for_terminal(stats.class_names[i]),
            groups[i],
            stats.image_counts[i],
            stats.instance_counts[i],
        ]
        for i in order
    ]
    if top is not None and len(rows) > 2 * top:
        gap: list[object] = ["...", f"{len(rows) - 2 * top} more (--all)", "", "", ""]
        rows = [*rows[:top], gap, *rows[len(rows) - top :]]
    columns = ["id", "class", "group", "images", "instances"]
    return tabulate(rows, headers=columns, tablefmt="github", disable_numparse=[1])


def _count(args: argparse.Namespace) -> ClassStats:
    if args.json:
        stats = class_stats_of_json(args.json, name=args.dataset[0], count_source=args.count_source)
        if args.image_root:
            _check_images(args.json, args.image_root)
        return replace(stats, rare_max=args.rare_max, common_max=args.common_max)
    from lt_det.data.annotations.datasets import (
        class_stats_of,  # Detectron2 is needed for registered ones only
    )

    return class_stats_of(
        args.dataset,
        count_source=args.count_source,
        rare_max=args.rare_max,
        common_max=args.common_max,
    )


def _check_images(json_file: str, image_root: str) -> None:
    """Print how many of the images are missing, and the first path looked for."""
    from lt_det.data.annotations.json_file import read_annotation_json
    from lt_det.data.annotations.lvis_format import image_path_rule

    images = read_annotation_json(json_file, name=json_file, keep_segmentations=False)["images"]
    path_of = image_path_rule(images, image_root)
    missing = [path for path in map(path_of, images) if not Path(path).is_file()]
    print(
        f"{len(missing)} of {len(images)} images are missing"
        + (f", first {missing[0]}" if missing else "")
    )
