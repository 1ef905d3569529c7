"""Files of images to classify: one split of class folders or of a csv, and what is wrong there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lt_det.data.annotations.naming import NUM_NAMED
from lt_det.data.images.lists import IMAGE_EXTENSIONS, csv_rows, files_of_classes
from lt_det.data.images.split_names import are_splits, is_split
from lt_det.data.images.system_files import is_system_file
from lt_det.data.inspection.file_names import near_names, place
from lt_det.data.inspection.findings import Finding, Harm
from lt_det.data.inspection.image_files import ImageFacts, read_images


@dataclass
class LabelledSet:
    """Images of one folder or csv.

    Attributes:
        source: the folder or csv; with its split, where it has one.
        train: whether it is trained on, not only evaluated.
        class_names: K names in the order of their ids.
        paths: of the N images.
        labels: ``(N,)`` int64.
        facts: N, what the files say of themselves; None of those that are not there.
    """

    source: str
    train: bool
    class_names: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    facts: list[ImageFacts | None] = field(default_factory=list)

    def counts(self) -> np.ndarray:
        """Return ``(K,)`` numbers of images."""
        return np.bincount(self.labels, minlength=len(self.class_names))


def read_labelled_set(
    path: str, split: str, *, train: bool, quick: bool
) -> tuple[LabelledSet, list[Finding]]:
    """Return the images of a folder or csv, as many as can be used, and what is wrong with it.

    Args:
        path: folder of class folders or of splits, or csv.
        split: of either; "" for all of it.
        train: whether it is trained on.
        quick: read headers and ends of images only.
    """
    one = LabelledSet(f"{path} ({split})" if split else path, train)
    found = (_read_folder if os.path.isdir(path) else _read_csv)(one, path, split)
    return one, found + _files(one, os.path.dirname(path), quick=quick)


def _read_folder(one: LabelledSet, path: str, split: str) -> list[Finding]:
    root = os.path.join(path, split) if split else path
    if not os.path.isdir(root):
        return [_finding(one, "error", "no-folder", f"there is no folder {root!r}", "correct it")]
    members = files_of_classes(root)
    one.class_names = [name for name, files in members.items() if files]
    one.paths = [os.path.join(root, f) for files in members.values() for f in files]
    sizes = [len(files) for files in members.values() if files]
    one.labels = np.repeat(np.arange(len(sizes)), sizes)
    empty = [name for name, files in members.items() if not files]
    inside = {os.path.relpath(p, root) for p in one.paths}
    others: list[str] = []
    loose: list[str] = []
    for folder, _, names in os.walk(root):
        for name in names:
            file = os.path.relpath(os.path.join(folder, name), root)
            if file in inside or any(map(is_system_file, file.split(os.sep))):
                continue
            (loose if os.sep not in file else others).append(file)
    loose = [f for f in loose if f.lower().endswith(IMAGE_EXTENSIONS)]
    found = []
    if not one.paths:
        found.append(
            _finding(one, "error", "no-images", "there is no image in a folder of a class",
                     "make one folder of images for each class")
        )  # fmt: skip
    elif empty:
        found.append(
            _finding(one, "error", "empty-class-folder", "the folder of the class holds no image "
                     f"({', '.join(IMAGE_EXTENSIONS)})", "training stops there: remove the folder "
                     "or put images into it", empty, len(members), "classes")
        )  # fmt: skip
    if not split and are_splits(members):
        found.append(
            _finding(one, "error", "splits-as-classes", "the folders look like splits, not like "
                     "classes", "name the folder of one split, or have a train and a val",
                     list(members), len(members), "folders")
        )  # fmt: skip
    if loose:
        found.append(
            _finding(one, "warning", "image-without-class", "the image is in no folder of a class",
                     "it is left out", sorted(loose), 0, "images")
        )  # fmt: skip
    if others:
        found.append(
            _finding(one, "note", "no-image-name", "the file has no name of an image "
                     f"({', '.join(IMAGE_EXTENSIONS)})", "it is left out", sorted(others), 0,
                     "files")
        )  # fmt: skip
    return found


def _read_csv(one: LabelledSet, path: str, split: str) -> list[Finding]:
    needed = ["path", "label", *(["split"] if split else [])]
    try:
        rows, bad = csv_rows(path, needed, name=path)
    except (OSError, ValueError) as error:
        text = str(error).removeprefix(f"data set {path!r}: ")
        return [_finding(one, "error", "no-csv", text, "correct the file")]
    found = []
    if bad:
        found.append(
            _finding(one, "error", "empty-cell", f"one of {needed} is empty", "training stops "
                     "there: fill or remove the rows", [f"line {n}" for n in bad], len(rows),
                     "rows")
        )  # fmt: skip
    elif not rows:
        found.append(_finding(one, "error", "no-images", "the csv has no row", "write it again"))
    good = [row for row in rows if all(row.get(c) for c in needed)]
    names = {row["label"] for row in good}
    numbers = all(name.isdecimal() for name in names)
    one.class_names = sorted(names, key=lambda c: (int(c), c)) if numbers else sorted(names)
    ids = {name: k for k, name in enumerate(one.class_names)}
    if not split and any(row.get("split") for row in good):
        seen = sorted({row.get("split", "") for row in good})
        found.append(
            _finding(one, "warning", "splits-unused", "the column 'split' is not used: all rows "
                     "are taken", f"call the splits train and val, not {seen[:NUM_NAMED]}")
        )  # fmt: skip
    chosen = [row for row in good if not split or is_split(row["split"], split)]
    folder = os.path.dirname(path)
    one.paths = [os.path.join(folder, row["path"]) for row in chosen]
    one.labels = np.array([ids[row["label"]] for row in chosen], dtype=np.int64)
    twice = [p for p, n in Counter(one.paths).items() if n > 1]
    if twice:
        found.append(
            _finding(one, "warning", "same-file-twice", "the path is in more than one row",
                     "an image has one class here: keep one row", twice, len(one.paths), "images")
        )  # fmt: skip
    return found


def _files(one: LabelledSet, folder: str, *, quick: bool) -> list[Finding]:
    there = [os.path.isfile(path) for path in one.paths]
    read = iter(read_images([p for p, is_there in zip(one.paths, there) if is_there], quick=quick))
    one.facts = [next(read) if is_there else None for is_there in there]
    facts = one.facts
    used = {place(path) for path in one.paths}
    slashes = any("\\" in path for path, is_there in zip(one.paths, there) if not is_there)
    of_png = [path.lower().endswith(".png") for path in one.paths]
    cases: list[tuple[Harm, str, list[bool], str, str]] = [
        ("error", "missing-image", [f is None for f in facts], "there is no such file",
         "paths start from the folder of the csv"
         + (", with slashes, not backslashes" if slashes else "")),
        ("error", "broken-image", [bool(f and f.problem) for f in facts],
         "the file is empty, cut off or no image", "copy it again, or remove it"),
        ("error", "image-depth", [bool(f and f.mode in ("I", "F")) and not png
                                  for f, png in zip(facts, of_png)],
         "32 bits a pixel, of unknown range", "training stops there: save it with 8 bits"),
        ("note", "image-16-bit", [bool(f and (f.mode[:4] == "I;16" or (f.mode == "I" and png)))
                                  for f, png in zip(facts, of_png)],
         "16 bits a pixel", "lt_det reads the upper eight; nearly black, if fewer are used"),
        ("warning", "image-cmyk", [bool(f and f.mode == "CMYK") for f in facts],
         "the file is in CMYK", "colours are converted roughly: save it as RGB"),
        ("note", "image-alpha", [bool(f and f.has_alpha) for f in facts],
         "the file has transparency", "it is dropped, what is behind it shows: save it as RGB"),
        ("note", "image-turned", [bool(f and f.orientation not in (None, 0, 1)) for f in facts],
         "the file has an EXIF orientation", "images to classify are read as stored, not turned"),
        ("note", "image-tiny", [bool(f and not f.problem and min(f.size) < 16) for f in facts],
         "the shorter side is below 16 pixels", "thumbnails?"),
    ]  # fmt: skip
    found = []
    for harm, kind, wrong, what, advice in cases:
        paths = [p for p, is_wrong in zip(one.paths, wrong) if is_wrong]
        if kind == "missing-image":
            near = near_names(paths[:NUM_NAMED], folder, used=used) if paths else {}
            paths = [f"{p} (there is {near[p]})" if p in near else p for p in paths]
        if paths:
            found.append(_finding(one, harm, kind, what, advice, paths, len(there), "images"))
    return found


def _finding(
    one: LabelledSet,
    harm: Harm,
    kind: str,
    what: str,
    advice: str,
    rows: Sequence[str] = (),
    total: int = 0,
    of: str = "",
) -> Finding:
    return Finding(
        harm, kind, one.source, what, advice, len(rows), total, of, tuple(rows[:NUM_NAMED])
    )
