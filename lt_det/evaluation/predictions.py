"""Predictions of one image, kept small until the whole data set is evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils
import torch


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
            masks = instances.pred_masks.detach().cpu()  # once: a GPU is waited for each time
            mask_counts = [_encode(mask) for mask in masks]
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


def _encode(mask: torch.Tensor) -> bytes:
    """Return the run-length code of one ``(h, w)`` mask."""
    pixels = mask.numpy().astype(np.uint8)
    return mask_utils.encode(np.asfortranarray(pixels))["counts"]
