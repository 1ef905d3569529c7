"""Classes of images as a csv, and as a sheet of the first images with what was said of them."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lt_det.report.image_sheet import SheetImage, save_image_sheet
from lt_det.shown_text import for_csv
from lt_det.storage.atomic_write import atomic_file

#: Images of the sheet.
ON_SHEET = 48


@dataclass(frozen=True)
class ClassifiedImage:
    """The highest scores of an image.

    Attributes:
        name: of the image.
        path: of the image.
        classes: class ids, best first.
        scores: their scores.
    """

    name: str
    path: str
    classes: tuple[int, ...]
    scores: tuple[float, ...]


def top_classes(scores: np.ndarray, *, number: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return ids and scores of the highest scores, best first; of equal ones the lower id.

    Args:
        scores: ``(K,)``.
        number: of classes, at most K are returned.
    """
    order = np.argsort(-scores, kind="stable")[:number]
    return tuple(order.tolist()), tuple(scores[order].tolist())


def save_class_csv(
    images: Sequence[ClassifiedImage], class_names: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Write ``file_name, class_1, score_1, class_2, ...``, one row an image.

    Args:
        images: all with the same number of classes.
        class_names: K names.
        path: file, written whole or not at all.
    """
    number = len(images[0].classes) if images else 0
    columns = [f"{what}_{k + 1}" for k in range(number) for what in ("class", "score")]
    with atomic_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file_name", *columns])
        for image in images:
            cells: list[object] = [for_csv(image.name)]
            for k, score in zip(image.classes, image.scores):
                cells += [for_csv(class_names[k]), f"{score:.6f}"]
            writer.writerow(cells)


def save_class_sheet(
    images: Sequence[ClassifiedImage], class_names: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Draw the first :data:`ON_SHEET` images with class and score.

    Args:
        images: in the order of the sheet.
        class_names: K names.
        path: picture, written whole or not at all.
    """
    save_image_sheet(
        [
            SheetImage(image.path, f"{class_names[image.classes[0]]} {100 * image.scores[0]:.0f}%")
            for image in images[:ON_SHEET]
        ],
        path,
    )
