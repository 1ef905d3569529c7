"""Facts about images to classify, read from class folders or a csv."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from lt_det.data.images.lists import find_splits, read_csv, read_folders
from lt_det.data.images.table import ImageTable
from lt_det.data.stats.class_stats import count_annotations
from lt_det.projects.classification_recipe import HELD_OUT
from lt_det.projects.facts import ClassificationFacts, Files

#: Images whose headers are read for their size.
_SOME = 200


def read_image_facts(train: Sequence[str], val: Sequence[str]) -> ClassificationFacts:
    """Return the facts of one folder or csv to train on, and of one or none to evaluate on.

    Args:
        train: path; a folder may hold the folders ``train`` and ``val``, a csv a column "split".
        val: path.

    Raises:
        FileNotFoundError: if there is no such folder or file.
        ValueError: if there are several, of both kinds, or they have other classes or broken rows.
    """
    if len(train) != 1 or len(val) > 1:
        raise ValueError(
            f"--train and --val take one folder or csv each, got {list(train)} and {list(val)}"
        )
    path = train[0]
    if not os.path.exists(path):
        raise FileNotFoundError(f"--train {path!r} does not exist: correct the path")
    if not os.path.isdir(path) and not path.lower().endswith(".csv"):
        raise ValueError(f"--train {path!r} must be a folder of class folders, or a csv")
    kind = "folder" if os.path.isdir(path) else "csv"
    if val and not os.path.exists(val[0]):
        raise FileNotFoundError(f"--val {val[0]!r} does not exist: correct the path")
    if val and os.path.isdir(val[0]) != (kind == "folder"):
        raise ValueError(f"--train {path!r} and --val {val[0]!r} must both be folders, or both csv")
    splits = ("", "") if val else find_splits(path)
    read = read_folders if kind == "folder" else read_csv
    table = read(path, splits[0], name="--train")
    stats = count_annotations(table.records(), table.class_names, name="--train")
    files = Files(path, split=splits[0])
    val_files, num_val = None, int(HELD_OUT * stats.num_images)
    if val or splits[1]:
        val_files = Files(val[0] if val else path, split=splits[1])
        val_table = read(val_files.annotations, val_files.split, name="--val")
        present = {val_table.class_names[label] for label in set(val_table.labels.tolist())}
        unknown = sorted(present - set(table.class_names))
        if unknown:
            raise ValueError(
                f"--val {val_files.annotations!r} has images of {len(unknown)} classes that "
                f"--train lacks, first {unknown[:5]}: train on them too, or leave them out"
            )
        num_val = len(val_table.labels)
    return ClassificationFacts(
        kind="folder" if kind == "folder" else "csv",
        train=files,
        val=val_files,
        stats=stats,
        val_images=num_val,
        short_side=_short_side(table),
    )


def _short_side(table: ImageTable) -> float:
    rows = np.linspace(0, len(table.labels) - 1, min(_SOME, len(table.labels))).astype(int)
    sides = []
    for record in table.records(rows):
        try:
            with Image.open(record["file_name"]) as image:
                sides.append(min(image.size))
        except (OSError, UnidentifiedImageError) as error:
            raise ValueError(
                f"{record['file_name']} cannot be read ({error}): correct or remove it"
            ) from error
    return float(np.median(sides))
