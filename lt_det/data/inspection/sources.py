"""Files and folders of a command line against each other: given twice, or in each other's place."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from lt_det.data.annotations.naming import NUM_NAMED
from lt_det.data.images.lists import files_of_classes
from lt_det.data.images.system_files import is_system_file
from lt_det.data.inspection.equal_files import equal_files, resolved
from lt_det.data.inspection.findings import Finding
from lt_det.data.inspection.shared_images import LEAK

_TRAIN, _VAL = {"train", "training"}, {"val", "valid", "validation", "test", "testing"}
# Beyond this share of the training images the evaluation is large for a validation set.
_MANY = 1.25


def check_no_folder_of_jsons(paths: Sequence[str]) -> None:
    """Raise for a folder that holds jsons, and images of less than two classes.

    Raises:
        ValueError: names the jsons.
    """
    for path in paths:
        # One folder of images is the usual place beside the json.
        if not os.path.isdir(path) or sum(map(bool, files_of_classes(path).values())) > 1:
            continue
        folders = [path, *sorted(e.path for e in os.scandir(path) if e.is_dir())]
        jsons = [
            os.path.join(folder, name)
            for folder in folders
            for name in sorted(os.listdir(folder))
            if name.lower().endswith(".json") and not is_system_file(name)
        ]
        if jsons:
            raise ValueError(
                f"{path!r} is a folder without a folder of images for each class: name the json of "
                f"its annotations, such as {', '.join(jsons[:NUM_NAMED])}"
            )


def redundant_sources(train: Sequence[str], val: Sequence[str]) -> dict[int, int]:
    """Return number of a source -> number of the earlier one that it equals.

    Folders are equal if they are one place, files also if they hold the same bytes.

    Args:
        train: files or folders, which are numbered first.
        val: the same, evaluated on.
    """
    places = resolved(os.path.abspath(path) for path in (*train, *val))
    for group in equal_files(list(dict.fromkeys(places))):
        places = [group[0] if place in group else place for place in places]
    first = {place: number for number, place in reversed(list(enumerate(places)))}
    return {n: first[place] for n, place in enumerate(places) if first[place] != n}


def source_findings(
    train: Sequence[str], val: Sequence[str], redundant: Mapping[int, int]
) -> list[Finding]:
    """Return what is odd about the places that are trained and evaluated on, as they are named.

    Args:
        train: files or folders.
        val: the same, evaluated on.
        redundant: of :func:`redundant_sources`.
    """
    both = [*train, *val]
    found = []
    for number, first in redundant.items():
        if number < len(train):
            what = f"the same as {both[first]}, which is trained on already"
            advice = "every image counts twice: name each once"
        elif first < len(train):
            what, advice = f"the same as {both[first]}, which is trained on", LEAK
        else:
            continue
        found.append(Finding("warning", "same-source", both[number], what, advice))
    names = [_split_named(path) for path in both]
    if "val" in names[: len(train)] and "train" in names[len(train) :]:
        wrong = both[names.index("val")]
        other = both[names.index("train", len(train))]
        found.append(
            Finding("warning", "splits-swapped", wrong,
                    f"trained on, though its name is that of a validation set, and {other} is "
                    "evaluated on", "were --train and --val swapped?")
        )  # fmt: skip
    return found


def size_findings(sources: Sequence[tuple[str, bool, int]]) -> list[Finding]:
    """Return a note where many more images are evaluated than trained on.

    Args:
        sources: path of each, whether it is trained on, and number of its images.
    """
    images, evaluated = (sum(n for _, train, n in sources if train is kind)
                         for kind in (True, False))  # fmt: skip
    if not images or evaluated <= _MANY * images:
        return []
    path = next(path for path, train, _ in sources if not train)
    return [
        Finding("note", "splits-sizes", path,
                f"{evaluated} images are evaluated, {images} are trained on",
                "were --train and --val swapped?")
    ]  # fmt: skip


def _split_named(path: str) -> str:
    """Return "train" or "val" where the name of a file, else of its folder, says one of them."""
    path = os.path.abspath(path)
    for name in (os.path.basename(path), os.path.basename(os.path.dirname(path))):
        words = set(re.split(r"[^a-z]+", name.lower()))
        is_train, is_val = bool(words & _TRAIN), bool(words & _VAL)
        if is_train != is_val:
            return "train" if is_train else "val"
    return ""
