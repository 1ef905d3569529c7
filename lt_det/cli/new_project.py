"""``lt-det new-project``: write the configs of a training from data, machine and time.

lt-det new-project --train train.json --val val.json --images images/ --output my_project
lt-det new-project --train photos/train --val photos/val --output my_project
lt-det new-project --train photos.csv --budget 30m --output my_project

Writes a yaml for each stage, every value with its reason, which lt-det train runs as it is on this
machine. Jsons are COCO's or LVIS's; folders hold one folder of images a class; a csv has the
columns path, label and, if you like, split.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from lt_det.cli.user_errors import UserError
from lt_det.data.inspection.sources import check_no_folder_of_jsons
from lt_det.projects.machine import find_machine
from lt_det.projects.new_project import (
    Project,
    TaskName,
    check_folder,
    classification_project,
    detection_project,
    write_project,
)
from lt_det.projects.schedule import seconds_of
from lt_det.shown_text import for_terminal

_TASKS = ("segmentation", "detection", "classification")
_SHOWN = 5


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="lt-det new-project",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--train",
        nargs="+",
        required=True,
        metavar="DATA",
        help="jsons, or a folder or csv of images to classify, that are trained on",
    )
    parser.add_argument(
        "--val", nargs="+", default=[], metavar="DATA", help="the same, evaluated on"
    )
    parser.add_argument(
        "--images",
        nargs="+",
        default=[],
        metavar="DIR",
        help="images of the jsons: one folder for all, or one a json in order; without it the "
        "folder 'images' beside each json, or the json's own",
    )
    parser.add_argument(
        "--task",
        choices=_TASKS,
        help="default: segmentation where every object has a mask, else detection; classification "
        "for folders and csv files",
    )
    parser.add_argument(
        "--budget", default="1h", metavar="TIME", help="of all stages: 30m, 1h, 1h30m (default 1h)"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="new folder for the configs"
    )
    parser.add_argument(
        "--device", choices=["auto", "cuda", "cpu"], default="auto", help="to train on"
    )
    parser.add_argument("--num-gpus", type=int, metavar="N", help="to train on (default 1)")
    args = parser.parse_args(arguments)
    if len(args.images) not in (0, 1, len(args.train) + len(args.val)):
        parser.error(
            f"--images takes one folder, or one for each of the {len(args.train) + len(args.val)} "
            "jsons"
        )
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the project and print what to do next."""
    args = parse_arguments(arguments)
    check_folder(args.output)
    check_no_folder_of_jsons([*args.train, *args.val])
    seconds = seconds_of(args.budget)
    task: TaskName | None = args.task or _task_of(args.train)
    machine = find_machine(args.device, num_gpus=args.num_gpus)
    folder = str(args.output)
    if task == "classification":
        if args.images:
            raise UserError("--images is for jsons: folders and csv files name their images")
        project = classification_project(
            args.train, args.val, machine=machine, seconds=seconds, folder=folder
        )
    else:
        if any(_is_images(path) for path in (*args.train, *args.val)):
            raise UserError(
                f"--task {task or 'of a json'} needs jsons in --train and --val; folders and csv "
                "files are for --task classification"
            )
        project = detection_project(
            args.train,
            args.val,
            image_roots=args.images,
            task=task,
            machine=machine,
            seconds=seconds,
            folder=folder,
        )
    paths = write_project(project, args.output)
    print(project_text(project, paths, num_gpus=machine.gpus if machine.device == "cuda" else 0))


def project_text(project: Project, paths: Sequence[Path], *, num_gpus: int) -> str:
    """Return what was made, what to know of it, and the commands that follow.

    Args:
        project: that was written.
        paths: of the yaml files.
        num_gpus: for the commands; 0 on a CPU.
    """
    lines = []
    shown = [one for one in project.findings if one.harm == "warning"]
    # Of those that are left out of the list none is about a class that cannot be learned.
    shown.sort(key=lambda one: one.kind != "class-without-usable-object")
    if shown:
        lines.append("About the data:")
        lines += [
            for_terminal(f"  {os.path.basename(one.file)}: {one.text()}") for one in shown[:_SHOWN]
        ]
        if len(shown) > _SHOWN:
            lines.append(f"  {len(shown) - _SHOWN} more warnings: lt-det check-data")
    lines += [f"Wrote {path}" for path in paths]
    lines += [f"  {note}" for note in project.recipe.notes]
    for stage in project.recipe.stages:
        lines.append(
            f"  {stage.name}: {stage.value('SOLVER.MAX_ITER')} iterations of "
            f"{stage.value('SOLVER.IMS_PER_BATCH')} images, {stage.value('LT_DET.LOSS')}"
        )
    gpus = f" --num-gpus {num_gpus}" if num_gpus > 1 else ""
    lines += [
        "Train:",
        f"  lt-det train{gpus} --stages {' '.join(shlex.quote(str(p)) for p in paths)}",
    ]
    if project.recipe.stages[0].value("DATASETS.TEST"):
        last = shlex.quote(str(paths[-1]))
        lines += [
            "The training ends with an evaluation. To evaluate again:",
            f"  lt-det evaluate{gpus} --config-file {last} --resume",
        ]
    else:
        lines.append("Nothing is evaluated, and no best checkpoint kept: --val names such data.")
    return "\n".join(lines)


def _task_of(train: Sequence[str]) -> TaskName | None:
    """Return the task that the kind of data says; None for jsons, which say it inside.

    Raises:
        UserError: for files of another kind.
    """
    kinds = {"classification" if _is_images(path) else "json" for path in train}
    if kinds == {"classification"}:
        return "classification"
    if "classification" in kinds:
        raise UserError(f"--train {list(train)} mixes jsons with folders or csv files")
    return None


def _is_images(path: str) -> bool:
    return os.path.isdir(path) or path.lower().endswith(".csv")
