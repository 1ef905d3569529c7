"""``lt-det check-data``: find everything that is wrong with a data set before a training.

lt-det check-data --train train.json --val val.json --images images/
lt-det check-data --train train.json --images images/ --fix mended.json

Prints what was found, the worst first, and what to do; then what a training would see. The exit
status is 1 where a training would stop or learn the wrong thing. Needs no Detectron2.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from lt_det.cli.user_errors import UserError
from lt_det.data.inspection.data_sets import Inspection, inspect_data_sets
from lt_det.data.inspection.findings import HARMS, Finding, has_error
from lt_det.data.inspection.outlook import Outlook
from lt_det.data.stats.frequency_groups import GROUP_NAMES
from lt_det.shown_text import for_terminal
from lt_det.storage.atomic_write import atomic_file

_MEANING = {
    "error": "training would stop, or learn the wrong thing",
    "warning": "objects are lost, or numbers mislead",
    "note": "good to know",
}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="lt-det check-data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--train", nargs="+", default=[], metavar="JSON", help="trained on")
    parser.add_argument("--val", nargs="+", default=[], metavar="JSON", help="evaluated on")
    parser.add_argument(
        "--images", nargs="+", default=[], metavar="DIR", help="one for all, or one a json in order"
    )
    parser.add_argument("--quick", action="store_true", help="read headers of images only")
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
    parser.add_argument("--rare-max", type=int, default=10, help="most images of a rare class")
    parser.add_argument("--common-max", type=int, default=100, help="most of a common class")
    parser.add_argument("--html", type=Path, metavar="PAGE", help="write a page with pictures")
    parser.add_argument("--all", action="store_true", help="a row for every class")
    args = parser.parse_args(arguments)
    number = len(args.train) + len(args.val)
    if not number:
        parser.error("name a json with --train or --val")
    if len(args.images) not in (0, 1, number):
        parser.error(f"--images takes one folder, or one for each of the {number} jsons")
    if args.repeat_threshold <= 0:
        parser.error("--repeat-threshold must be above 0")
    if not 0 <= args.rare_max < args.common_max:
        parser.error("--rare-max must be at least 0 and below --common-max")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Inspect, print, and write mended copies; return 1 where a training would go wrong."""
    args = parse_arguments(arguments)
    targets = _targets(args.fix, [*args.train, *args.val])
    inspection = inspect_data_sets(
        args.train,
        args.val,
        image_roots=args.images,
        quick=args.quick,
        masks=args.masks,
        threshold=args.repeat_threshold,
        limits=(args.rare_max, args.common_max),
    )
    left = list(inspection.findings)
    written: list[Path] = []
    if targets:
        written = _write(inspection, targets)
        left = inspection.findings_after_mending(masks=args.masks)
    status = int(has_error(left))
    if args.html is not None:
        from lt_det.report.data_page import save_data_page

        outlook = inspection.outlook
        texts = [] if outlook is None else outlook_text(outlook).splitlines()
        # The table of the classes is on the page in full.
        save_data_page(inspection, args.html, texts=[t for t in texts[1:] if t[:1] != "|"])
    if args.json:
        print(json.dumps(_as_json(inspection, written, left, usable=not status), indent=1))
        return status
    print(findings_text(inspection.findings))
    if inspection.outlook is not None:
        print(f"\n{outlook_text(inspection.outlook, every_class=args.all)}")
    if args.html is not None:
        print(f"\nPage with pictures: {args.html}")
    if not args.images:
        print("\nImages were not looked at: give their folder with --images.")
    for path, file in zip(written, (f for f in inspection.files if f.mended is not None)):
        changes = ", ".join(f"{name}: {n}" for name, n in file.changes.items()) or "nothing to mend"
        print(f"\nWrote {path} ({changes})")
    if written:
        errors = [one for one in left if one.harm == "error"]
        print(f"Left in the mended: {len(errors)} errors" + (":" if errors else "."))
        print("".join(f"  {one.kind}: {_line(one)}\n" for one in errors), end="")
    elif any(one.mendable for one in inspection.findings):
        print("\nWhat is marked (mendable) --fix OUT.json puts right in a copy.")
    return status


def findings_text(findings: Sequence[Finding]) -> str:
    """Return the findings in the order given, under a headline for each harm."""
    lines = []
    for harm in HARMS:
        of_harm = [one for one in findings if one.harm == harm]
        if not of_harm:
            continue
        lines.append(f"{harm.upper()}S ({len(of_harm)}): {_MEANING[harm]}")
        lines += [f"  {_line(one)}{' (mendable)' if one.mendable else ''}" for one in of_harm]
    return "\n".join(lines) or "Nothing is wrong."


def outlook_text(outlook: Outlook, *, every_class: bool = False, rows: int = 10) -> str:
    """Return the table of classes, and in words what a training makes of them.

    Args:
        outlook: of the files.
        every_class: a row for each class, else some from either end.
        rows: from either end.
    """
    stats, repeats = outlook.train, outlook.repeats
    order = sorted(range(stats.num_classes), key=lambda k: (-stats.image_counts[k], k))
    table: list[list[object]] = []
    for k in order:
        table.append(
            [
                for_terminal(stats.class_names[k]),
                stats.frequency_groups[k],
                stats.image_counts[k],
                stats.instance_counts[k],
                *(["-", "-"] if outlook.val is None else outlook.val[k]),
                f"{outlook.factors[k]:.2f}",
            ]
        )
    if not every_class and len(table) > 2 * rows:
        gap: list[object] = [f"{len(table) - 2 * rows} more (--all)", *[""] * 6]
        table = [*table[:rows], gap, *table[-rows:]]
    columns = ["class", "group", "train images", "instances", "val images", "instances", "repeats"]
    lowest, highest, ratio = outlook.offsets()
    groups = ", ".join(
        f"{len(members)} {GROUP_NAMES[group]}" for group, members in stats.group_members().items()
    )
    lines = [
        "What a training sees",
        tabulate(table, headers=columns, tablefmt="github", disable_numparse=[0]),
        f"Groups: {groups} (rare: at most {stats.rare_max} images, common: at most "
        f"{stats.common_max}).",
        f"The most frequent class has {ratio:.4g} times the images of the rarest; the prior moves "
        f"logits by {lowest:+.2f} (rarest) to {highest:+.2f}.",
        f"Repeat factor sampling, threshold {repeats.threshold:g}: an epoch is "
        f"{repeats.draws:,.0f} draws of {repeats.images:,} images, {repeats.classes} classes "
        f"repeated, the largest factor {repeats.largest:.2f}.",
    ]
    if repeats.suggestion is not None:
        lines.append(
            f"It repeats nothing: a threshold above {repeats.suggestion:.3g} would repeat about "
            "half of the classes."
        )
    if outlook.val is not None:
        without = [n for n, (_, number) in zip(stats.class_names, outlook.val) if not number]
        if without:
            lines.append(
                f"No validation object, so no AP: {len(without)} classes, first "
                + ", ".join(map(for_terminal, without[:5]))
                + "."
            )
    return "\n".join(lines)


def _line(finding: Finding) -> str:
    return for_terminal(f"{finding.file}: {finding.text()}")


def _targets(out: Path | None, files: Sequence[str]) -> list[Path]:
    """Return where the mended copy of each file goes.

    Raises:
        UserError: if two would be one, or one is a file that is read.
    """
    if out is None:
        return []
    if len(files) == 1:
        targets = [out]
    else:
        if out.suffix == ".json":
            raise UserError(
                f"--fix {out} must be a folder where there are {len(files)} jsons; name a folder, "
                "or mend one json at a time"
            )
        targets = [out / Path(file).name for file in files]
    if len(set(targets)) < len(targets):
        raise UserError(f"--fix {out}: two of the jsons have the same name; mend one at a time")
    for target in targets:
        if any(os.path.realpath(target) == os.path.realpath(file) for file in files):
            raise UserError(f"--fix {target} is a file that is read; name another")
    return targets


def _write(inspection: Inspection, targets: Sequence[Path]) -> list[Path]:
    written = []
    for file, target in zip(inspection.files, targets):
        if file.mended is None:
            print(f"{target} is not written: {file.json.path} cannot be read", file=sys.stderr)
            continue
        with atomic_file(target) as stream:
            json.dump(file.mended, stream)
        written.append(target)
    return written


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
