"""What a detector predicted for one image, kept small until the whole data set is evaluated."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np
import pycocotools.mask as mask_utils
import torch

from lt_det.evaluation.detections import Detections

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImagePredictions:
    """Predictions for one image: 28 bytes each, and the run-length code of the mask.

    Attributes:
        image_id: id of the data set.
        boxes: ``(n, 4)`` float32 XYWH in absolute pixels.
        scores: ``(n,)`` float32.
        labels: ``(n,)`` int64 contiguous class ids.
        mask_counts: n run-length codes; None if the model predicts no masks.
        mask_size: (height, width) of the masks in px.
    """

    image_id: int
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    mask_counts: list[bytes] | None
    mask_size: tuple[int, int]

    @classmethod
    def from_instances(cls, instances: Any, *, image_id: int) -> ImagePredictions:
        """Return the predictions in a Detectron2 ``Instances``; masks are encoded here.

        Args:
            instances: with ``pred_boxes`` (XYXY), ``scores``, ``pred_classes`` and, if the model
                predicts masks, ``pred_masks`` ``(n, h, w)`` of the size of the image.
            image_id: named in errors.

        Raises:
            ValueError: if a box or a score is not finite.
        """
        boxes = instances.pred_boxes.tensor.detach().float().cpu().numpy().reshape(-1, 4)
        scores = instances.scores.detach().float().cpu().numpy()
        for name, values in (("pred_boxes", boxes), ("scores", scores)):
            bad = ~np.isfinite(values if values.ndim == 1 else values.sum(axis=1))
            if bad.any():
                raise ValueError(
                    f"{name} of image {image_id} has {int(bad.sum())} of {len(bad)} predictions "
                    "that are not finite; the model diverged (lower SOLVER.BASE_LR, clip "
                    "gradients) or its weights are damaged"
                )
        mask_counts, mask_size = None, tuple(instances.image_size)
        if instances.has("pred_masks"):
            mask_size = tuple(instances.pred_masks.shape[-2:])
            mask_counts = [_encode(mask) for mask in instances.pred_masks]
        # Width and height in float32, as Detectron2 has them: a double would differ in the last
        # bits, and a threshold can lie between.
        boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        return cls(
            image_id=image_id,
            boxes=boxes,
            scores=scores,
            labels=instances.pred_classes.cpu().numpy().astype(np.int64),
            mask_counts=mask_counts,
            mask_size=mask_size,
        )

    def __len__(self) -> int:
        return len(self.scores)


def tasks_of(predictions: Sequence[ImagePredictions]) -> tuple[str, ...]:
    """Return ("bbox",), or ("bbox", "segm") if the model predicts masks, be it for no object."""
    has_masks = any(image.mask_counts is not None for image in predictions)
    return ("bbox", "segm") if has_masks else ("bbox",)


def without_repeated_images(predictions: Sequence[ImagePredictions]) -> list[ImagePredictions]:
    """Return the first predictions for each image.

    Samplers that give all processes equally many images repeat some; twice the detections would
    count as false positives.
    """
    first: dict[int, ImagePredictions] = {}
    for image in predictions:
        first.setdefault(image.image_id, image)
    if len(first) < len(predictions):
        logger.warning(
            "%d images were predicted more than once; the first predictions count",
            len(predictions) - len(first),
        )
    return list(first.values())


def join_predictions(
    predictions: Sequence[ImagePredictions], *, category_ids: Sequence[int], with_masks: bool
) -> Detections:
    """Return all predictions as one table, with the category ids of the data set.

    Args:
        predictions: one entry an image.
        category_ids: K ids of the json, in contiguous order.
        with_masks: whether the table has masks.

    Raises:
        ValueError: if a label is not in 0..K-1, or masks are wanted and some image has none.
    """
    for image in predictions:
        wrong = (image.labels < 0) | (image.labels >= len(category_ids))
        if wrong.any():
            raise ValueError(
                f"image {image.image_id}: predicted class {int(image.labels[wrong][0])}, but the "
                f"data set has {len(category_ids)} classes, 0 to {len(category_ids) - 1}; set "
                "MODEL.ROI_HEADS.NUM_CLASSES (MODEL.RETINANET.NUM_CLASSES) accordingly"
            )
        if with_masks and len(image) and image.mask_counts is None:
            raise ValueError(
                f"image {image.image_id}: task 'segm' needs pred_masks, the predictions have none; "
                "set MODEL.MASK_ON True or evaluate tasks=('bbox',)"
            )
    labels = _concatenate([image.labels for image in predictions], np.int64)
    lengths = [len(image) for image in predictions]
    masks: list[Mapping[str, Any]] | None = None
    if with_masks:
        masks = [
            {"size": image.mask_size, "counts": counts}
            for image in predictions
            for counts in image.mask_counts or ()
        ]
    image_ids = np.array([image.image_id for image in predictions], dtype=np.int64)
    return Detections(
        image_ids=np.repeat(image_ids, lengths),
        category_ids=np.asarray(category_ids, dtype=np.int64)[labels],
        scores=_concatenate([image.scores for image in predictions], np.float64),
        boxes=_concatenate([image.boxes for image in predictions], np.float64).reshape(-1, 4),
        masks=masks,
    )


def _encode(mask: torch.Tensor) -> bytes:
    """Return the run-length code of one ``(h, w)`` mask."""
    pixels = mask.detach().cpu().numpy().astype(np.uint8)
    return mask_utils.encode(np.asfortranarray(pixels))["counts"]


def _concatenate(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    # NumPy cannot concatenate no arrays.
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype)
