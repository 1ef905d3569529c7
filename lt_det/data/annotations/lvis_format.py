"""Convert the content of an LVIS-format json to Detectron2's data set dicts.

Differs from Detectron2's own LVIS reader in what a data set of one's own needs: any category
ids, images named by ``file_name``, run-length encoded masks, crowds, and federated fields that may
be absent. Category ids become contiguous in ascending order, as in Detectron2's COCO reader.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lt_det.data.annotations.checks import check_unique, is_crowd
from lt_det.data.annotations.mask_checks import mask_is_usable, polygon_is_valid
from lt_det.data.annotations.schema import check_image_sizes
from lt_det.data.warn_once import warn_once

logger = logging.getLogger(__name__)

FEDERATED_KEYS = ("neg_category_ids", "not_exhaustive_category_ids")


def lvis_dataset_dicts(
    json_dict: Mapping[str, Any],
    *,
    name: str,
    image_root: str | os.PathLike[str],
    id_map: Mapping[int, int],
    box_mode: Any,
) -> list[dict[str, Any]]:
    """Return one dict for each image, sorted by image id.

    ``annotations`` hold ``bbox`` (x, y, width, height in pixels), ``bbox_mode``, contiguous
    ``category_id`` and, if the json has them, ``segmentation`` and ``iscrowd``. The two federated
    lists keep the json's category ids, as in Detectron2's own reader.

    Args:
        json_dict: checked by :func:`~lt_det.data.annotations.checks.check_annotations`.
        name: data set, for messages.
        image_root: folder of the images.
        id_map: json category id -> contiguous id; annotations of others are left out.
        box_mode: ``BoxMode.XYWH_ABS``; passed in because this file does not know Detectron2.

    Raises:
        ValueError: if annotation ids repeat (the evaluation would drop one of the two) or an
            image has no height or width.
    """
    where = f"data set {name!r}: the json"
    annotations = json_dict["annotations"]
    check_unique(
        (one["id"] for one in annotations if one.get("id") is not None),
        what=f"{where}: 'id' of 'annotations'",
    )
    images = sorted(json_dict["images"], key=lambda image: image["id"])
    check_image_sizes(images, name=name)
    by_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in images}
    num_dropped = num_rle = 0
    for annotation in annotations:
        if annotation["category_id"] not in id_map:
            continue
        segmentation = annotation.get("segmentation")
        if not mask_is_usable(segmentation):
            num_dropped += 1
            continue
        instance = {
            "bbox": annotation["bbox"],
            "bbox_mode": box_mode,
            "category_id": id_map[annotation["category_id"]],
        }
        if "iscrowd" in annotation:
            instance["iscrowd"] = int(is_crowd(annotation))
        if segmentation:
            num_rle += isinstance(segmentation, dict)
            instance["segmentation"] = _as_detectron2_mask(segmentation)
        by_image[annotation["image_id"]].append(instance)
    path_of = image_path_rule(images, image_root)
    if images and not os.path.isfile(path_of(images[0])):
        logger.warning(
            "Data set %r: its first image is not at %s; correct image_root (now %r)",
            name,
            path_of(images[0]),
            os.fspath(image_root),
        )
    if num_dropped:
        logger.warning(
            "Data set %r: dropped %d annotations without a polygon of 3 points", name, num_dropped
        )
    if num_rle:
        logger.info(
            "Data set %r: %d masks are run-length encoded; training on them needs "
            "INPUT.MASK_FORMAT 'bitmask'",
            name,
            num_rle,
        )
    _warn_missing_federated(images, name=name)
    return [
        {
            "file_name": path_of(image),
            "height": int(image["height"]),
            "width": int(image["width"]),
            "image_id": image["id"],
            **{key: image.get(key, []) for key in FEDERATED_KEYS},
            "annotations": by_image[image["id"]],
        }
        for image in images
    ]


def image_path_rule(
    images: Sequence[Mapping[str, Any]], image_root: str | os.PathLike[str]
) -> Callable[[Mapping[str, Any]], str]:
    """Return the function from an image's json entry to its path.

    Data sets name their images in four ways: by ``file_name``; by the last two parts of
    ``coco_url``, split folder and name (LVIS v1, which has no ``file_name``, and v0.5, whose
    ``file_name`` is that of COCO 2014); by the last part of ``coco_url``; by the id with twelve
    digits. Which way is meant is decided by the first image: the first of these under which a file
    exists, else the first that its entry allows. An entry that lacks the key falls to the next.

    Args:
        images: entries of the json; the first is looked for.
        image_root: folder of the images.
    """
    root = os.fspath(image_root)
    rules: list[Callable[[Mapping[str, Any]], str | None]] = [
        lambda image: image.get("file_name"),
        lambda image: _tail(image, 2),
        lambda image: _tail(image, 1),
        lambda image: f"{int(image['id']):012d}.jpg",
    ]
    for index, rule in enumerate(rules if images else ()):
        file_name = rule(images[0])
        if file_name is not None and os.path.isfile(os.path.join(root, file_name)):
            rules.insert(0, rules.pop(index))
            break

    def path_of(image: Mapping[str, Any]) -> str:
        file_names = (rule(image) for rule in rules)
        return os.path.join(root, next(name for name in file_names if name is not None))

    return path_of


def _tail(image: Mapping[str, Any], num_parts: int) -> str | None:
    url = image.get("coco_url")
    return "/".join(url.split("/")[-num_parts:]) if url else None


def _as_detectron2_mask(segmentation: Any) -> Any:
    """Return valid polygons only, or compressed run-length encoding."""
    if isinstance(segmentation, dict):
        if not isinstance(segmentation["counts"], list):
            return segmentation
        from pycocotools import mask  # needed for uncompressed masks only

        return mask.frPyObjects(segmentation, *segmentation["size"])
    return [polygon for polygon in segmentation if polygon_is_valid(polygon)]


def _warn_missing_federated(images: Sequence[Mapping[str, Any]], *, name: str) -> None:
    """Warn of missing lists; :mod:`lt_det.evaluation.lvis.ground_truth` says what follows.

    COCO's format has neither list, and means it: nothing is missing there.
    """
    if not any(key in image for image in images for key in FEDERATED_KEYS):
        return
    for key in FEDERATED_KEYS:
        num_missing = sum(key not in image for image in images)
        if not num_missing:
            continue
        if key == "not_exhaustive_category_ids":
            meaning = "the evaluation takes every class of these images as annotated completely"
        elif num_missing < len(images):
            meaning = (
                "the evaluation counts no false positive of a class that is not annotated in "
                "these images"
            )
        else:
            meaning = (
                "the evaluation takes the data set as annotated exhaustively, as COCO is: a "
                "detection of a class that is absent from its image is a false positive"
            )
        warn_once(
            f"Data set {name!r}: {num_missing} of {len(images)} images have no {key!r}; {meaning}"
        )
