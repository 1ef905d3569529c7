"""``lt-det check-data``: find everything that is wrong with a data set before a training.

lt-det check-data --train train.json --val val.json --images images/
lt-det check-data --train train.json --images images/ --fix mended.json
lt-det check-data --train photos/train --val photos/val
lt-det check-data --train photos.csv
lt-det check-data --config-file my_project/stage1.yaml

Prints what was found, the worst first, and what to do; then what a training would see. The exit
status is 1 where a training would stop or learn the wrong thing. Needs no Detectron2, but for
--config-file. Jsons are COCO's or LVIS's; folders hold one folder of images a class; a csv has the
columns path, label and, if you like, split.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

from lt_det.cli.checked_text import finding_line, findings_text, images_text, outlook_text
from lt_det.cli.mended_copies import targets_of, write_mended
from lt_det.cli.user_errors import UserError
from lt_det.data.inspection.data_sets import Inspection, inspect_data_sets
from lt_det.data.inspection.findings import Finding, has_error
from lt_det.data.inspection.labelled_images import inspect_images
from lt_det.data.inspection.sources import check_no_folder_of_jsons
from lt_det.data.stats.frequency_groups import FEW_MAX, MEDIUM_MAX
from lt_det.shown_text import for_terminal


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line; what --config-file says is in it, too."""
    parser = argparse.ArgumentParser(
        prog="lt-det check-data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    data = "jsons, or folders or csv files of images to classify, "
    parser.add_argument("--train", nargs="+", default=[], metavar="DATA", help=f"{data}trained on")
    parser.add_argument("--val", nargs="+", default=[], metavar="DATA", help="evaluated on")
    parser.add_argument(
        "--images", nargs="+", default=[], metavar="DIR", help="one for all, or one a json in order"
    )
    parser.add_argument(
        "--config-file", metavar="FILE", help="check the data that a config uses, as it uses them"
    )
    parser.add_argument(
        "--options", nargs="+", default=[], metavar="KEY VALUE", help="on top of the config"
    )
    parser.add_argument("--quick", action="store_true", help="read headers and ends of images only")
    parser.add_argument("--json", action="store_true", help="print a json for machines")
    parser.add_argument(
        "--fix",
        type=Path,
        metavar="OUT",
        help="write a mended copy: a json, or a folder where there are several jsons",
    )
    parser.add_argument(
        "--masks",
        choices=["auto", "off", "polygon", "bitmask"],
        default="auto",
        help="what the training does with masks: MODEL.MASK_ON and INPUT.MASK_FORMAT",
    )
    parser.add_argument(
        "--repeat-threshold", type=float, default=0.001, help="DATALOADER.REPEAT_THRESHOLD"
    )
    parser.add_argument(
        "--rare-max", type=int, help=f"most images of a rare class (10; to classify: {FEW_MAX})"
    )
    parser.add_argument("--common-max", type=int, help="most of a common class (100)")
    parser.add_argument("--html", type=Path, metavar="PAGE", help="write a page with pictures")
    parser.add_argument("--all", action="store_true", help="a row for every class")
    args = parser.parse_args(arguments)
    args.splits, args.num_classes, args.notes = None, (0, ""), []
    if args.config_file is not None:
        if args.train or args.val or args.images:
            parser.error("--config-file names the data: leave out --train, --val and --images")
        if args.repeat_threshold <= 0:
            parser.error("--repeat-threshold must be above 0")
        return args
    number = len(args.train) + len(args.val)
    if not number:
        parser.error("name data with --train or --val, or a config with --config-file")
    if args.options:
        parser.error("--options go with --config-file")
    if len(args.images) not in (0, 1, number):
        parser.error(f"--images takes one folder, or one for each of the {number} jsons")
    if args.repeat_threshold <= 0:
        parser.error("--repeat-threshold must be above 0")
    args.is_images = _is_images(parser, args)
    _set_limits(args)
    if not 0 <= args.rare_max < args.common_max:
        parser.error("--rare-max must be at least 0 and below --common-max")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Inspect, print, and write mended copies; return 1 where a training would go wrong."""
    args = parse_arguments(arguments)
    if args.config_file is not None:
        _read_config(args)
    return _check_images(args) if args.is_images else _check_jsons(args)


def _check_jsons(args: argparse.Namespace) -> int:
    targets = targets_of(args.fix, [*args.train, *args.val])
    repeating = args.repeat_threshold > 0
    inspection = inspect_data_sets(
        args.train,
        args.val,
        image_roots=args.images,
        quick=args.quick,
        masks=args.masks,
        threshold=args.repeat_threshold if repeating else 0.001,
        limits=(args.rare_max, args.common_max),
    )
    outlook = inspection.outlook
    wrong_number = [] if outlook is None else _wrong_number(args, outlook.train.num_classes)
    inspection.findings[:0] = wrong_number
    left = list(inspection.findings)
    written: list[Path] = []
    if targets:
        written = write_mended(inspection, targets)
        left = wrong_number + inspection.findings_after_mending(masks=args.masks)
    status = int(has_error(left))
    estimates = [] if status else _estimates(inspection, args)
    if args.html is not None:
        from lt_det.report.data_page import save_data_page

        texts = [] if outlook is None else outlook_text(outlook, repeating=repeating).splitlines()
        # The table of the classes is on the page in full.
        texts = [t for t in texts[1:] if t[:1] != "|"]
        save_data_page(inspection, args.html, texts=texts + estimates)
    if args.json:
        found = _as_json(inspection, written, left, usable=not status)
        print(json.dumps({**found, "estimates": estimates}, indent=1))
        return status
    print(findings_text(inspection.findings))
    if outlook is not None:
        print(f"\n{outlook_text(outlook, every_class=args.all, repeating=repeating)}")
    _print_rest(args, estimates)
    if not args.val:
        key = "DATASETS.TEST" if args.config_file is not None else "--val"
        print(f"\nNothing is evaluated: name a validation json with {key}.")
    if not args.images:
        print("\nImages were not looked at: give their folder with --images.")
    for path, file in zip(written, (f for f in inspection.files if f.mended is not None)):
        changes = ", ".join(f"{name}: {n}" for name, n in file.changes.items()) or "nothing to mend"
        print(f"\nWrote {path} ({changes})")
    if written:
        errors = [one for one in left if one.harm == "error"]
        print(f"Left in the mended: {len(errors)} errors" + (":" if errors else "."))
        print("".join(f"  {one.kind}: {finding_line(one)}\n" for one in errors), end="")
    elif any(one.mendable for one in inspection.findings):
        print("\nWhat is marked (mendable) --fix OUT.json puts right in a copy.")
    return status


def _check_images(args: argparse.Namespace) -> int:
    from lt_det.projects.estimates import classification_estimates
    from lt_det.projects.machine import find_machine

    if args.fix is not None:
        raise UserError("--fix mends jsons; of images to classify correct the files themselves")
    inspection = inspect_images(
        args.train,
        args.val,
        quick=args.quick,
        limits=(args.rare_max, args.common_max),
        splits=args.splits,
    )
    outlook = inspection.outlook
    if outlook is not None:
        inspection.findings[:0] = _wrong_number(args, outlook.train.num_classes)
    status = int(not inspection.is_usable)
    estimates: list[str] = []
    sides = [min(f.size) for s in inspection.sets if s.train for f in s.facts if f and f.size]
    if not status and outlook is not None:
        images, val = outlook.train.num_images, sum(outlook.val or ())
        side = statistics.median(sides)
        estimates = classification_estimates(images, val, side, find_machine())
    if args.html is not None:
        from lt_det.report.data_page import save_images_page

        texts = [] if outlook is None else images_text(outlook).splitlines()[1:]
        texts = [t for t in texts if t[:1] != "|"]
        save_images_page(inspection, args.html, texts=texts + estimates)
    if args.json:
        found = {
            "usable": not status,
            "findings": [one.to_dict() for one in inspection.findings],
            "outlook": None if outlook is None else outlook.to_dict(),
            "estimates": estimates,
        }
        print(json.dumps(found, indent=1))
        return status
    print(findings_text(inspection.findings))
    if outlook is not None:
        print(f"\n{images_text(outlook, every_class=args.all)}")
    _print_rest(args, estimates)
    return status


def _print_rest(args: argparse.Namespace, estimates: Sequence[str]) -> None:
    for text in (*estimates, *map(for_terminal, args.notes)):
        print(text)
    if args.html is not None:
        print(f"\nPage with pictures: {args.html}")


def _estimates(inspection: Inspection, args: argparse.Namespace) -> list[str]:
    from lt_det.projects.estimates import detection_estimates
    from lt_det.projects.machine import find_machine

    if inspection.outlook is None:
        return []
    train, val = (
        [f.mended for f in inspection.files if f.train is kind and f.mended is not None]
        for kind in (True, False)
    )
    repeats = inspection.outlook.repeats
    return detection_estimates(
        train,
        val,
        inspection.outlook.train,
        find_machine(),
        draws=repeats.draws if args.repeat_threshold > 0 else repeats.images,
        masks=None if args.masks == "auto" else args.masks != "off",
    )


def _read_config(args: argparse.Namespace) -> None:
    """Put the data of the config, and what it does with them, into the arguments."""
    from lt_det.engine.startup.configured_data import data_of_config

    found = data_of_config(args.config_file, args.options)
    args.train, args.val, args.images = found.train, found.val, found.image_roots
    args.is_images, args.splits = found.is_images, found.splits
    args.masks, args.repeat_threshold = found.masks, found.repeat_threshold
    args.rare_max, args.common_max = found.limits
    args.num_classes = (found.num_classes, found.num_classes_key)
    args.notes = [f"Not looked at: {note}." for note in found.notes]


def _wrong_number(args: argparse.Namespace, number: int) -> list[Finding]:
    set_, key = args.num_classes
    if set_ in (0, number):
        return []
    what = f"{key} is {set_}, the training set has {number} classes"
    advice = f"leave it out, or set it to {number}"
    return [Finding("error", "num-classes", str(args.config_file), what, advice)]


def _is_images(parser: argparse.ArgumentParser, args: argparse.Namespace) -> bool:
    """Return whether folders and csv files are given, in place of jsons."""
    check_no_folder_of_jsons([*args.train, *args.val])
    kinds = {os.path.isdir(p) or p.lower().endswith(".csv") for p in (*args.train, *args.val)}
    if len(kinds) > 1:
        parser.error("--train and --val mix jsons with folders or csv files: check each by itself")
    is_images = kinds == {True}
    if is_images and args.images:
        parser.error("--images is for jsons: folders and csv files name their images")
    return is_images


def _set_limits(args: argparse.Namespace) -> None:
    if args.rare_max is None:
        args.rare_max = FEW_MAX if args.is_images else 10
    if args.common_max is None:
        args.common_max = MEDIUM_MAX


def _as_json(
    inspection: Inspection, written: Sequence[Path], left: Sequence[Finding], *, usable: bool
) -> dict[str, object]:
    return {
        "usable": usable,
        "findings": [one.to_dict() for one in inspection.findings],
        "outlook": None if inspection.outlook is None else inspection.outlook.to_dict(),
        "written": list(map(str, written)),
        "left": [one.to_dict() for one in left] if written else [],
    }
