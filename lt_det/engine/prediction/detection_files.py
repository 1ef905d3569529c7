"""Detections as a COCO-format json, and drawn into the images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils
import torch
from detectron2.data.detection_utils import read_image

from lt_det.engine.prediction.image_files import ImageFile
from lt_det.evaluation.predictions import ImagePredictions
from lt_det.shown_text import for_plot
from lt_det.storage.atomic_write import atomic_file

# Sides of pictures in pixels: larger ones are drawn smaller, and labels fit into smaller ones.
_LONGEST, _SHORTEST = 1600, 400


def kept_instances(instances: Any, thresholds: np.ndarray) -> Any:
    """Return the detections whose score reaches the threshold of their class, best first.

    Args:
        instances: Detectron2's, with ``scores`` and ``pred_classes``.
        thresholds: ``(K,)``.
    """
    instances = instances.to(torch.device("cpu"))
    scores = instances.scores.double()
    kept = scores >= torch.from_numpy(thresholds)[instances.pred_classes]
    order = torch.argsort(scores[kept], descending=True, stable=True)
    return instances[torch.nonzero(kept)[:, 0][order]]


def annotations_of(
    instances: Any, *, image_id: int, category_ids: Sequence[int], first_id: int
) -> list[dict[str, Any]]:
    """Return detections as annotations of a COCO-format json, with "score".

    Args:
        instances: Detectron2's, boxes XYXY in pixels of the image.
        image_id: of the json.
        category_ids: K ids of the json.
        first_id: of the first annotation.

    Raises:
        ValueError: if a box or score is not finite.
    """
    found = ImagePredictions.from_instances(instances, image_id=image_id)
    result = []
    for row, (box, score, label) in enumerate(
        zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist())
    ):
        one: dict[str, Any] = {
            "id": first_id + row,
            "image_id": image_id,
            "category_id": category_ids[label],
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
            "score": score,
        }
        if found.mask_counts is not None:
            counts = found.mask_counts[row]
            code = {"size": list(found.mask_size), "counts": counts}
            one["area"] = float(mask_utils.area(code))
            one["segmentation"] = {**code, "counts": counts.decode()}
        result.append(one)
    return result


def save_picture(
    image: ImageFile, instances: Any, class_names: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Draw boxes, masks, class names and scores into an image, and write it.

    Args:
        image: file; it is turned upright as for the model.
        instances: Detectron2's, on the CPU.
        class_names: K names.
        path: picture; its ending decides the format. Written whole or not at all.

    Raises:
        ImportError: without OpenCV, which Detectron2 draws with.
    """
    from PIL import Image

    try:
        from detectron2.utils.colormap import colormap
        from detectron2.utils.visualizer import Visualizer
    except ImportError as error:
        raise ImportError(
            f"pictures need OpenCV ({error}): pip install opencv-python-headless, or give "
            "--no-pictures"
        ) from error
    pixels = read_image(image.path, format="RGB")
    height, width = pixels.shape[:2]
    scale = min(max(1.0, _SHORTEST / min(height, width)), _LONGEST / max(height, width))
    drawing = Visualizer(pixels, scale=scale)
    classes = instances.pred_classes.tolist()
    colours = colormap(rgb=True, maximum=1)
    drawing.overlay_instances(
        boxes=instances.pred_boxes,
        masks=instances.pred_masks.numpy() if instances.has("pred_masks") else None,
        labels=[
            f"{for_plot(class_names[k])} {100 * score:.0f}%"
            for k, score in zip(classes, instances.scores.tolist())
        ],
        assigned_colors=[colours[k % len(colours)] for k in classes],
        alpha=0.4,
    )
    picture = Image.fromarray(drawing.output.get_image())
    ending = os.path.splitext(os.fspath(path))[1].lower()
    options = {"quality": 90} if ending in (".jpg", ".jpeg", ".webp") else {}
    with atomic_file(path, "wb") as file:
        picture.save(file, format=Image.registered_extensions().get(ending, "PNG"), **options)
