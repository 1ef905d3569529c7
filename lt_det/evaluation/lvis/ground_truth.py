"""Ground truth of an LVIS json: the parts that the metric reads, checked and copied.

lvis-api writes into the dictionaries it is given, and both implementations have rules about ids
that real files break (an annotation id of 0 is read as "unmatched", of two annotations with one id
one is lost). A private copy with ids 1, 2, ... takes both away.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lt_det.data.annotations.areas import checked_areas, image_sizes
from lt_det.data.annotations.checks import check_annotations, is_crowd
from lt_det.data.annotations.json_file import check_exists, read_annotation_json
from lt_det.data.annotations.schema import check_image_sizes
from lt_det.data.warn_once import warn_of
from lt_det.evaluation.detections import Detections
from lt_det.evaluation.lvis.box_json import read_box_json
from lt_det.evaluation.lvis.collection import without_collection
from lt_det.evaluation.lvis.columns import Columns, places_of
from lt_det.evaluation.lvis.stored_truth import TruthParts, stored_truth

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LVISGroundTruth:
    """Ground truth of a data set, ready for either backend.

    Attributes:
        images: one dictionary an image: "id", "height", "width", "neg_category_ids" and
            "not_exhaustive_category_ids", the two lists always there.
        annotations: those with an area; "id" (place in the json, from 1), "image_id",
            "category_id", "bbox", "area", "ignore", and "segmentation" if asked for and there.
            Crowds are ignored, see :func:`read_ground_truth`.
        categories: "id", "name" and, where the json has it, "frequency"; sorted by id.
    """

    images: list[dict[str, Any]]
    annotations: Sequence[dict[str, Any]]
    categories: list[dict[str, Any]]

    @property
    def category_ids(self) -> list[int]:
        """Ids of the json in rising order; the order of every per-category result."""
        return [category["id"] for category in self.categories]

    @property
    def image_ids(self) -> set[int]:
        """Ids of all images."""
        return {image["id"] for image in self.images}

    def of_categories(self, category_ids: Container[int]) -> LVISGroundTruth:
        """Return the part of it that is about some categories."""
        return LVISGroundTruth(
            images=self.images,
            annotations=[a for a in self.annotations if a["category_id"] in category_ids],
            categories=[c for c in self.categories if c["id"] in category_ids],
        )

    def is_judged(self, detections: Detections) -> np.ndarray:
        """Return ``(N,)`` bool: whether the metric can tell if a detection is right.

        It can where the category is annotated in the image, or listed as absent from it. All
        others are left out, after the limit on the number of detections.

        Args:
            detections: of known images and categories only.
        """
        return self.judged_rows(*self.rows_of(detections))

    def rows_of(self, detections: Detections) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(N,)`` int64 place of each detection's image and category by rising id.

        Args:
            detections: of known images and categories only.
        """
        starts, lengths = detections.image_runs()
        images = places_of(self.columns.image_ids, detections.image_ids[starts])
        classes = places_of(self.columns.category_ids, detections.category_ids)
        return np.repeat(images, lengths), classes

    def judged_rows(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return :meth:`is_judged` of detections whose :meth:`rows_of` are given."""
        columns = self.columns
        lists = [image["neg_category_ids"] for image in self.images]
        sizes = [len(listed) for listed in lists]
        if sum(sizes) > 10 * len(images):  # e.g. exhaustive: nearly all are judged
            return np.ones(len(images), dtype=bool)
        listed = np.fromiter(itertools.chain.from_iterable(lists), np.int64, count=sum(sizes))
        known = np.isin(listed, columns.category_ids)
        of_images = places_of(columns.image_ids, np.array([i["id"] for i in self.images], np.int64))
        # A byte for each pair of an image and a category: 24 MB for LVIS validation.
        judged = np.zeros((len(columns.image_ids), len(columns.category_ids)), dtype=bool)
        judged[
            np.repeat(of_images, sizes)[known], places_of(columns.category_ids, listed[known])
        ] = True
        judged[columns.images, columns.classes] = True
        return judged[images, classes]

    @functools.cached_property
    def columns(self) -> Columns:
        """The annotations as arrays."""
        return Columns.of(self.images, self.annotations, self.category_ids)

    def frequency_groups(self) -> dict[int, str] | None:
        """Return category id -> "r", "c" or "f" from the json, or None if it says nothing.

        LVIS copies them there from the counts of the training split. For a split that was made
        otherwise they may be missing or wrong: pass groups made from the training set then.
        """
        groups = {c["id"]: c["frequency"] for c in self.categories if "frequency" in c}
        return groups or None


@without_collection
def read_ground_truth(
    ground_truth: Mapping[str, Any] | str | os.PathLike, *, with_masks: bool, name: str = ""
) -> LVISGroundTruth:
    """Return the checked copy of an LVIS-format json, given as a path or as its content.

    An image without "neg_category_ids" follows the LVIS rule: nothing is known but what is
    annotated, so detections of other categories do not count. If no image has the key, the data
    set is not federated but annotated exhaustively, as COCO is: every category that is absent from
    an image is then a negative there, and one log line says so.

    Annotations with "iscrowd" (COCO's format; LVIS has none) are ignored, and their category
    counts as not exhaustively annotated in their image: no detection of it is a false positive
    there. lvis-api itself reads "ignore" only and would take a crowd for one object.

    Args:
        ground_truth: content or path of the json; never changed.
        with_masks: whether to keep the segmentations (most of the memory).
        name: data set, for messages; default: the path, or "ground_truth".

    Raises:
        ValueError: as :func:`~lt_det.data.annotations.checks.check_annotations`, or if an image has
            no size.
    """
    if isinstance(ground_truth, (str, os.PathLike)):
        path = ground_truth
        name = name or os.fspath(path)
        check_exists(path, name=name)
        read = read_annotation_json if with_masks else read_box_json
        parts = stored_truth(
            path,
            lambda: _checked(read(path, name=name), name=name, with_masks=with_masks),
            with_masks=with_masks,
        )
    elif isinstance(ground_truth, Mapping):
        name = name or "ground_truth"
        parts = _checked(ground_truth, name=name, with_masks=with_masks)
    else:
        raise TypeError(
            f"ground_truth: expected a dict or a path, got {type(ground_truth).__name__}"
        )
    _say(parts.findings, name=name)
    truth = LVISGroundTruth(parts.images, parts.annotations, parts.categories)
    truth.__dict__["columns"] = parts.columns  # where cached_property keeps it
    return truth


def _checked(ground_truth: Mapping[str, Any], *, name: str, with_masks: bool) -> TruthParts:
    content = {"annotations": [], **ground_truth}
    warnings = check_annotations(content, name=name)
    categories = sorted(
        (
            {key: c[key] for key in ("id", "name", "frequency") if key in c}
            for c in content["categories"]
        ),
        key=lambda category: category["id"],
    )
    check_image_sizes(content["images"], name=name)
    exhaustive = not any("neg_category_ids" in image for image in content["images"])
    category_ids = [category["id"] for category in categories]
    images = _images(content["images"], category_ids if exhaustive else [])
    areas, doubtful = checked_areas(content["annotations"], image_sizes(images))
    annotations = _annotations(content["annotations"], areas, with_masks=with_masks)
    crowds = _excuse_crowds(images, content["annotations"])
    return TruthParts(
        images=images,
        annotations=annotations,
        categories=categories,
        columns=Columns.of(images, annotations, category_ids),
        findings={"warnings": warnings + doubtful, "exhaustive": exhaustive, "crowds": crowds},
    )


def _say(findings: Mapping[str, Any], *, name: str) -> None:
    warn_of(findings["warnings"], name=name)
    if findings["exhaustive"]:
        _say_exhaustive()
    if findings["crowds"]:
        logger.info(
            "The ground truth has crowds in %d images: no detection is judged by them",
            findings["crowds"],
        )


def _images(images: list[Mapping[str, Any]], default: list[int]) -> list[dict[str, Any]]:
    # With every category listed, those present are in both lists, which means the same to the
    # metric as present only; so all images can share one list.
    return [
        {
            "id": image["id"],
            "height": int(image["height"]),
            "width": int(image["width"]),
            "neg_category_ids": image.get("neg_category_ids", default),
            "not_exhaustive_category_ids": image.get("not_exhaustive_category_ids", []),
        }
        for image in images
    ]


@functools.cache
def _say_exhaustive() -> None:
    """Say it once, however often the set is evaluated."""
    logger.info(
        "The ground truth has no neg_category_ids: taken as exhaustively annotated, so that a "
        "detection of any category that is absent from its image is a false positive."
    )


def _annotations(
    annotations: Sequence[Mapping[str, Any]], areas: np.ndarray, *, with_masks: bool
) -> list[dict[str, Any]]:
    copies = []
    for number, (annotation, area) in enumerate(zip(annotations, areas.tolist()), start=1):
        if not area > 0:
            # lvis-api reads annotations through an area filter whose ends are open: without area
            # an object does not exist for it.
            continue
        copy = {
            "id": number,
            "image_id": int(annotation["image_id"]),  # 1.0 is the image 1
            "category_id": int(annotation["category_id"]),
            "bbox": list(annotation["bbox"]),
            "area": area,
            "ignore": int(
                bool(annotation.get("ignore", 0))
                or ("iscrowd" in annotation and is_crowd(annotation))
            ),
        }
        if with_masks and "segmentation" in annotation:
            copy["segmentation"] = annotation["segmentation"]
        copies.append(copy)
    return copies


def _excuse_crowds(images: list[dict[str, Any]], annotations: list[Mapping[str, Any]]) -> int:
    """List the categories of crowds as not exhaustive, in place; return the number of images."""
    crowds: dict[int, set[int]] = {}
    for annotation in annotations:
        if "iscrowd" in annotation and is_crowd(annotation):
            crowds.setdefault(annotation["image_id"], set()).add(annotation["category_id"])
    for image in images if crowds else ():
        if image["id"] in crowds:
            listed = image["not_exhaustive_category_ids"]
            image["not_exhaustive_category_ids"] = sorted({*listed, *crowds[image["id"]]})
    return len(crowds)
