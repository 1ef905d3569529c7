"""What ``lt-det check-data`` prints of findings and of what a training sees."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from lt_det.data.inspection.findings import HARMS, Finding
from lt_det.data.inspection.labelled_images import ImageOutlook
from lt_det.data.inspection.outlook import Outlook
from lt_det.data.stats.frequency_groups import GROUP_NAMES, SHOT_NAMES
from lt_det.shown_text import for_terminal

_MEANING = {
    "error": "training would stop, or learn the wrong thing",
    "warning": "objects are lost, or numbers mislead",
    "note": "good to know",
}


def findings_text(findings: Sequence[Finding]) -> str:
    """Return the findings in the order given, under a headline for each harm."""
    lines = []
    for harm in HARMS:
        of_harm = [one for one in findings if one.harm == harm]
        if not of_harm:
            continue
        lines.append(f"{harm.upper()}S ({len(of_harm)}): {_MEANING[harm]}")
        lines += [
            f"  {finding_line(one)}{' (mendable)' if one.mendable else ''}" for one in of_harm
        ]
    return "\n".join(lines) or "Nothing is wrong."


def outlook_text(
    outlook: Outlook, *, every_class: bool = False, rows: int = 10, repeating: bool = True
) -> str:
    """Return the table of classes, and in words what a training makes of them.

    Args:
        outlook: of the files.
        every_class: a row for each class, else some from either end.
        rows: from either end.
        repeating: whether images of rare classes are repeated.
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
                f"{outlook.factors[k]:.2f}" if repeating else "-",
            ]
        )
    columns = ["class", "group", "train images", "instances", "val images", "instances", "repeats"]
    lowest, highest, ratio = outlook.offsets()
    groups = ", ".join(
        f"{len(members)} {GROUP_NAMES[group]}" for group, members in stats.group_members().items()
    )
    lines = [
        "What a training sees",
        _table(table, columns, None if every_class else rows),
        f"Groups: {groups} (rare: at most {stats.rare_max} images, common: at most "
        f"{stats.common_max}).",
        f"The most frequent class has {ratio:.4g} times the images of the rarest; the prior moves "
        f"logits by {lowest:+.2f} (rarest) to {highest:+.2f}.",
    ]
    if repeating:
        lines.append(
            f"Repeat factor sampling, threshold {repeats.threshold:g}: an epoch is "
            f"{repeats.draws:,.0f} draws of {repeats.images:,} images, {repeats.classes} classes "
            f"repeated, the largest factor {repeats.largest:.2f}."
        )
        if repeats.suggestion is not None:
            lines.append(
                f"It repeats nothing: a threshold above {repeats.suggestion:.3g} would repeat "
                "about half of the classes."
            )
    else:
        lines.append(f"No image is repeated: an epoch is {repeats.images:,} draws.")
    if outlook.val is not None:
        without = [n for n, (_, number) in zip(stats.class_names, outlook.val) if not number]
        if without:
            lines.append(
                f"No validation object, so no AP: {len(without)} classes, first "
                + ", ".join(map(for_terminal, without[:5]))
                + "."
            )
    return "\n".join(lines)


def images_text(outlook: ImageOutlook, *, every_class: bool = False, rows: int = 10) -> str:
    """Return the same of images to classify.

    Args:
        outlook: of the folders or csv files.
        every_class: a row for each class, else some from either end.
        rows: from either end.
    """
    stats = outlook.train
    order = sorted(range(stats.num_classes), key=lambda k: (-stats.image_counts[k], k))
    table: list[list[object]] = [
        [
            for_terminal(stats.class_names[k]),
            SHOT_NAMES[stats.frequency_groups[k]],
            stats.image_counts[k],
            "-" if outlook.val is None else outlook.val[k],
        ]
        for k in order
    ]
    lowest, highest, ratio = outlook.offsets()
    groups = ", ".join(
        f"{len(members)} {SHOT_NAMES[group]}" for group, members in stats.group_members().items()
    )
    lines = [
        "What a training sees",
        _table(
            table, ["class", "group", "train images", "val images"], None if every_class else rows
        ),
        f"Groups: {groups} (few: at most {stats.rare_max} images, medium: at most "
        f"{stats.common_max}).",
        f"The most frequent class has {ratio:.4g} times the images of the rarest; the prior moves "
        f"logits by {lowest:+.2f} (rarest) to {highest:+.2f}.",
        f"An epoch is {stats.num_images:,} draws.",
    ]
    if outlook.val is None:
        lines.append("No validation images: new-project holds out a fifth of each class.")
    return "\n".join(lines)


def finding_line(finding: Finding) -> str:
    """Return one line with the file."""
    return for_terminal(f"{finding.file}: {finding.text()}")


def _table(table: list[list[object]], columns: list[str], rows: int | None) -> str:
    if rows is not None and len(table) > 2 * rows:
        gap: list[object] = [f"{len(table) - 2 * rows} more (--all)", *[""] * (len(columns) - 1)]
        table = [*table[:rows], gap, *table[-rows:]]
    return tabulate(table, headers=columns, tablefmt="github", disable_numparse=[0])
