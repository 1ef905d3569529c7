"""Scenes as LVIS-format annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from demo.mask_polygons import mask_to_polygons
from demo.scenes import Scene

RARE_MAX_IMAGES = 10  # the thresholds of LVIS, in images of the training split
COMMON_MAX_IMAGES = 100


def scene_annotations(scene: Scene) -> list[dict[str, Any]]:
    """Return one annotation per object, without ids.

    Args:
        scene: a composed scene; category ids are its class ids + 1.

    Returns:
        Dicts with ``category_id``, ``segmentation`` (polygons that cover exactly the visible
        pixels), ``area`` (visible pixels) and ``bbox`` (x, y, width, height in pixels).
    """
    annotations = []
    for index, layer in enumerate(scene.layers):
        mask = scene.object_map == index
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
        annotations.append(
            {
                "category_id": layer.class_id + 1,
                "segmentation": mask_to_polygons(mask),
                "area": int(mask.sum()),
                "bbox": [int(v) for v in box],
            }
        )
    return annotations


def lvis_dictionary(
    class_names: Sequence[str],
    images: Iterable[tuple[str, list[dict[str, Any]]]],
    *,
    image_size: int,
    train_counts: Sequence[tuple[int, int]] | None = None,
    description: str = "",
) -> dict[str, Any]:
    """Return a split in LVIS format.

    Every image is exhaustively annotated: all absent classes are verified negatives.

    Args:
        class_names: K names; category ids are 1 to K in this order.
        images: file name and :func:`scene_annotations` of each image.
        image_size: side of the pictures in pixels.
        train_counts: ``(image count, instance count)`` of each class in the training split; None
            if this is the training split. LVIS writes the training counts into every split, and
            a balanced validation split would otherwise have no rare class.
        description: goes into the ``info`` field.
    """
    images = list(images)
    all_ids = set(range(1, len(class_names) + 1))
    image_records: list[dict[str, Any]] = []
    annotation_records: list[dict[str, Any]] = []
    for image_id, (file_name, objects) in enumerate(images, start=1):
        present = {a["category_id"] for a in objects}
        image_records.append(
            {
                "id": image_id,
                "file_name": file_name,
                "height": image_size,
                "width": image_size,
                "neg_category_ids": sorted(all_ids - present),
                "not_exhaustive_category_ids": [],
            }
        )
        for annotation in objects:
            record = {"id": len(annotation_records) + 1, "image_id": image_id, **annotation}
            annotation_records.append(record)
    counts = train_counts or count_classes([a for _, a in images], num_classes=len(class_names))
    return {
        "info": {"description": description},
        "images": image_records,
        "annotations": annotation_records,
        "categories": [
            {
                "id": category_id,
                "name": name,
                "synset": f"{name}.n.01",
                "synonyms": [name],
                "def": f"an emoji of: {name.replace('_', ' ')}",
                "image_count": image_count,
                "instance_count": instance_count,
                "frequency": _frequency(image_count),
            }
            for category_id, (name, (image_count, instance_count)) in enumerate(
                zip(class_names, counts), start=1
            )
        ],
    }


def count_classes(
    annotations: Sequence[Sequence[dict[str, Any]]], *, num_classes: int
) -> list[tuple[int, int]]:
    """Return in how many images, and how often in all, each class occurs.

    Args:
        annotations: the annotations of each image.
        num_classes: K.
    """
    in_images = Counter(c for image in annotations for c in {a["category_id"] for a in image})
    instances = Counter(a["category_id"] for image in annotations for a in image)
    return [(in_images[c], instances[c]) for c in range(1, num_classes + 1)]


def _frequency(image_count: int) -> str:
    if image_count <= RARE_MAX_IMAGES:
        return "r"
    return "c" if image_count <= COMMON_MAX_IMAGES else "f"
