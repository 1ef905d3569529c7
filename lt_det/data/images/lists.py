"""Read labelled images from a list, a json, a csv, or one folder for each class."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from lt_det.data.annotations.checks import NUM_NAMED
from lt_det.data.images.small_images import check_file
from lt_det.data.images.split_names import are_splits, is_split, train_and_val
from lt_det.data.images.system_files import is_system_file
from lt_det.data.images.table import ImageTable
from lt_det.storage.regular_file import open_regular

logger = logging.getLogger(__name__)

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp", ".tif", ".tiff")

_COLUMNS = ("path", "label", "split")


def read_list(path: str, image_root: str, *, name: str) -> ImageTable:
    """Return the images of a text file with lines ``path label``: ImageNet-LT, Places-LT.

    Args:
        path: the list.
        image_root: folder that the paths start from.
        name: data set, for messages.

    Raises:
        FileNotFoundError: if the list, or the first image of it, is not there.
        ValueError: for a line of another form, with its number.
    """
    path = os.path.expanduser(path)
    check_file(
        path,
        name=name,
        hint="download the list of the data set, such as ImageNet_LT_train.txt, or correct "
        "the path of the data set",
    )
    files, labels = [], []
    text = io.StringIO(_read_text(path, name=name), newline=None)
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        # From the right: paths may hold blanks.
        words = line.strip().rsplit(maxsplit=1)
        if len(words) != 2 or not words[1].isdecimal():
            raise ValueError(
                f"data set {name!r}: line {number} of {path} must be 'path label' with a "
                f"label >= 0, got {line.strip()!r}"
            )
        files.append(words[0])
        labels.append(int(words[1]))
    class_names = [str(label) for label in range(max(labels, default=-1) + 1)]
    return _table(files, labels, class_names, image_root, name=name)


def read_inaturalist(path: str, image_root: str, *, name: str) -> ImageTable:
    """Return the images of an iNaturalist json, such as ``train2018.json``.

    Args:
        path: json with "images", "annotations" and, for the names, "categories".
        image_root: folder that ``file_name`` starts from (it holds ``train_val2018``).
        name: data set, for messages.

    Raises:
        FileNotFoundError: if the json, or the first image of it, is not there.
        ValueError: if it is no such json.
    """
    path = os.path.expanduser(path)
    check_file(
        path,
        name=name,
        hint="download train2018.json and val2018.json of iNaturalist 2018, or correct the "
        "path of the data set",
    )
    with open_regular(path, "r", encoding="utf-8") as file:
        try:
            content = json.load(file)
            files = {image["id"]: image["file_name"] for image in content["images"]}
            pairs = [(files[a["image_id"]], a["category_id"]) for a in content["annotations"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"data set {name!r}: {path} is no iNaturalist json: {type(error).__name__}: {error}"
            ) from error
    categories = content.get("categories") or [
        {"id": i, "name": str(i)} for i in range(1 + max((c for _, c in pairs), default=-1))
    ]
    ordered = sorted(categories, key=lambda category: category["id"])
    contiguous = {category["id"]: index for index, category in enumerate(ordered)}
    unknown = sorted({c for _, c in pairs} - set(contiguous))
    if unknown:
        raise ValueError(
            f"data set {name!r}: {path} has annotations of categories that it does not list, "
            f"first {unknown[:NUM_NAMED]}"
        )
    nameless = [category["id"] for category in ordered if "name" not in category]
    if nameless:
        raise ValueError(
            f"data set {name!r}: {path} has categories without a name, first ids "
            f"{nameless[:NUM_NAMED]}"
        )
    # Some names of species occur twice; class names must differ.
    class_names = [f"{category['id']} {category['name']}" for category in ordered]
    labels = [contiguous[c] for _, c in pairs]
    return _table([f for f, _ in pairs], labels, class_names, image_root, name=name)


def read_csv(path: str, split: str, *, name: str) -> ImageTable:
    """Return the images of a csv with a header and the columns path, label and, if any, split.

    Labels are names or numbers; classes are in the order of the numbers, or of the alphabet. They
    are those of all splits.

    Args:
        path: the csv; image paths start from its folder.
        split: rows of this split; "" for all.
        name: data set, for messages.

    Raises:
        FileNotFoundError: if the csv, or the first image of it, is not there.
        ValueError: if a column is missing or empty, or no row has the split.
    """
    path = os.path.expanduser(path)
    needed = ["path", "label", *(["split"] if split else [])]
    rows, bad = csv_rows(path, needed, name=name)
    if bad or not rows:
        raise ValueError(
            f"data set {name!r}: {path} must have rows with all of {needed}, none of them empty; "
            f"not so in the lines {bad[:NUM_NAMED] or 'at all'}"
        )
    found = {row["label"] for row in rows}
    numbers = all(label.isdecimal() for label in found)
    # "01" and "1" are two classes, in an order of their own.
    class_names = sorted(found, key=lambda c: (int(c), c)) if numbers else sorted(found)
    chosen = [row for row in rows if not split or is_split(row["split"], split)]
    if not chosen:
        raise ValueError(
            f"data set {name!r}: no row of {path} has split {split!r}; there are "
            f"{sorted({row['split'] for row in rows})}"
        )
    ids = {label: index for index, label in enumerate(class_names)}
    labels = [ids[row["label"]] for row in chosen]
    files = [row["path"] for row in chosen]
    return _table(files, labels, class_names, os.path.dirname(path), name=name)


def csv_rows(
    path: str, needed: Sequence[str], *, name: str
) -> tuple[list[dict[str, str]], list[int]]:
    """Return the rows of a csv with a header, and the lines of those with an empty cell.

    Args:
        path: the csv.
        needed: columns that it must have, and whose cells must not be empty.
        name: data set, for messages.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if a column is missing, or it is no text.
    """
    check_file(path, name=name, hint="it is a csv with the columns path, label and split")
    reader = csv.DictReader(io.StringIO(_read_text(path, name=name), newline=""))
    try:
        header = [column.strip() for column in reader.fieldnames or []]
        # "Path" is path, where there is no "path" beside it.
        plain = [column.lower() for column in header]
        header = [
            low if low in _COLUMNS and plain.count(low) == 1 else column
            for column, low in zip(header, plain)
        ]
        reader.fieldnames = header
        rows = [{c: (row[c] or "").strip() for c in header} for row in reader]
    except csv.Error as error:
        raise ValueError(
            f"data set {name!r}: line {reader.line_num + 1} of {path} cannot be read as csv "
            f"({error}): expected short texts between commas; correct it, or close its quotes"
        ) from None
    lacking = [column for column in needed if column not in header]
    if lacking:
        raise ValueError(
            f"data set {name!r}: the first line of {path} must name the columns {list(needed)}, "
            f"separated by commas; it lacks {lacking}, it has {header}"
        )
    bad = [i for i, row in enumerate(rows, start=2) if not all(row.get(c) for c in needed)]
    return rows, bad


def read_folders(path: str, split: str, *, name: str) -> ImageTable:
    """Return the images of a tree with one folder a class, as torchvision's ImageFolder.

    Args:
        path: folder of the class folders, or of splits.
        split: folder below ``path`` that holds the class folders; "" for ``path`` itself.
        name: data set, for messages.

    Raises:
        FileNotFoundError: if there is no such folder, or none in it.
        ValueError: if a class folder has no image.
    """
    root = os.path.join(os.path.expanduser(path), split) if split else os.path.expanduser(path)
    hint = "it must hold one folder of images for each class"
    if not os.path.isdir(root):
        raise FileNotFoundError(
            f"data set {name!r}: there is no folder {os.path.abspath(root)}: {hint}"
        )
    members = files_of_classes(root)
    if not split and are_splits(members):
        logger.warning(
            "Data set %r: the classes of %s would be %s, which look like splits: name one as the "
            "split (fourth entry) of the data set",
            *(name, root, sorted(members)),
        )
    if not members:
        raise FileNotFoundError(f"data set {name!r}: {os.path.abspath(root)} is empty: {hint}")
    empty = next((one for one, files in members.items() if not files), None)
    if empty is not None:
        raise ValueError(
            f"data set {name!r}: {os.path.join(root, empty)} holds no image "
            f"({', '.join(IMAGE_EXTENSIONS)})"
        )
    files = [file for of_class in members.values() for file in of_class]
    labels = [label for label, of_class in enumerate(members.values()) for _ in of_class]
    return _table(files, labels, list(members), root, name=name)


def files_of_classes(root: str) -> dict[str, list[str]]:
    """Return class name -> its image files, as seen from ``root``; both in alphabetical order.

    Args:
        root: folder of the class folders; hidden ones and those of systems are left out.
    """
    found: dict[str, list[str]] = {}
    for entry in sorted(os.scandir(root), key=lambda one: one.name):
        if entry.is_dir() and not is_system_file(entry.name):
            found[entry.name] = files = []
            for folder, folders, names in os.walk(entry.path):
                folders[:] = [one for one in folders if not is_system_file(one)]
                images = [one for one in names if one.lower().endswith(IMAGE_EXTENSIONS)]
                files += [os.path.join(folder, one) for one in images if not is_system_file(one)]
            files[:] = sorted(os.path.relpath(file, root) for file in files)
    return found


def find_splits(path: str) -> tuple[str, str]:
    """Return the splits of a folder or csv to train and to evaluate on; "" where there are none.

    Args:
        path: folder that may hold the folders ``train`` and ``val``, or csv with a column "split".
    """
    if os.path.isdir(path):
        names = {entry.name for entry in os.scandir(path) if entry.is_dir()}
    else:
        names = {row.get("split", "") for row in csv_rows(path, (), name=path)[0]}
    return train_and_val(names)


def _read_text(path: str, *, name: str) -> str:
    """Return the content of a text file, without the mark that spreadsheets begin it with."""
    try:
        with open_regular(path, "r", newline="", encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"data set {name!r}: {path} is not in UTF-8 ({error}): save it in that encoding"
        ) from error


def _table(
    files: Sequence[str],
    labels: Sequence[int],
    class_names: Sequence[str],
    image_root: str,
    *,
    name: str,
) -> ImageTable:
    image_root = os.path.expanduser(image_root)
    if files:
        # One look: a wrong root is found now, not after the model was built.
        check_file(
            os.path.join(image_root, files[0]),
            name=name,
            hint=f"put the images of the data set below {os.path.abspath(image_root)}, or "
            "correct the folder of the images",
        )

    def image_of(index: int) -> dict[str, Any]:
        return {"file_name": os.path.join(image_root, files[index])}

    return ImageTable(name, np.asarray(labels, dtype=np.int64), tuple(class_names), image_of)
