"""Predictions of one process, or of all, as flat arrays.

Arrays go from one process to another as they are. A pickled list of results needs several times
their memory, in every process.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from lt_det.evaluation.detections import Detections
from lt_det.evaluation.lvis.encoded_masks import EncodedMasks
from lt_det.evaluation.predictions import ImagePredictions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionTable:
    """N predictions for I images, those of an image next to each other.

    Attributes:
        image_ids: ``(I,)`` int64 ids of the data set.
        counts: ``(I,)`` int64 predictions of each image.
        has_masks: ``(I,)`` bool, whether masks were predicted, be it for no object.
        mask_sizes: ``(I, 2)`` int32 (height, width) of the masks in px.
        boxes: ``(N, 4)`` float32 XYWH in absolute pixels.
        scores: ``(N,)`` float32.
        labels: ``(N,)`` int64 contiguous class ids.
        code_lengths: ``(N,)`` int32 bytes of the run-length code; 0 without a mask.
        codes: ``(B,)`` uint8, the codes one after another.
    """

    image_ids: np.ndarray
    counts: np.ndarray
    has_masks: np.ndarray
    mask_sizes: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    code_lengths: np.ndarray
    codes: np.ndarray

    @classmethod
    def of_images(cls, images: Sequence[ImagePredictions]) -> PredictionTable:
        """Return one table of the predictions for several images, possibly none."""
        codes = [code for image in images for code in image.mask_counts or [b""] * len(image)]
        return cls(
            image_ids=np.array([image.image_id for image in images], dtype=np.int64),
            counts=np.array([len(image) for image in images], dtype=np.int64),
            has_masks=np.array([image.mask_counts is not None for image in images], dtype=bool),
            mask_sizes=np.array([i.mask_size for i in images], dtype=np.int32).reshape(-1, 2),
            boxes=_concatenate([image.boxes for image in images], np.float32).reshape(-1, 4),
            scores=_concatenate([image.scores for image in images], np.float32),
            labels=_concatenate([image.labels for image in images], np.int64),
            code_lengths=np.array([len(code) for code in codes], dtype=np.int32),
            # A copy that can be written to, as torch wants it.
            codes=np.frombuffer(bytearray(b"".join(codes)), dtype=np.uint8),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the columns; tables are joined by concatenating each along its first axis."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> PredictionTable:
        """Return the table with the columns of :meth:`arrays`."""
        return cls(**arrays)

    def tasks(self) -> tuple[str, ...]:
        """Return ("bbox",), or ("bbox", "segm") if some image has masks."""
        return ("bbox", "segm") if self.has_masks.any() else ("bbox",)

    def detections(self, *, category_ids: Sequence[int], with_masks: bool) -> Detections:
        """Return the first predictions for each image, with the category ids of the data set.

        Samplers that give all processes equally many images repeat some; twice the detections
        would count as false positives.

        Args:
            category_ids: K ids of the json, in contiguous order.
            with_masks: whether the detections have masks.

        Raises:
            ValueError: if a label is not in 0..K-1, or masks are wanted and some image has none.
        """
        self._check(num_classes=len(category_ids), with_masks=with_masks)
        masks = None
        if with_masks:
            masks = EncodedMasks.joined(
                self.codes,
                lengths=self.code_lengths,
                sizes=np.repeat(self.mask_sizes, self.counts, axis=0),
            )
        detections = Detections(
            image_ids=np.repeat(self.image_ids, self.counts),
            category_ids=np.asarray(category_ids, dtype=np.int64)[self.labels],
            scores=self.scores,
            boxes=self.boxes,
            masks=masks,
        )
        first = np.unique(self.image_ids, return_index=True)[1]
        num_repeated = len(self.image_ids) - len(first)
        if not num_repeated:
            return detections
        logger.warning(
            "%d images were predicted more than once; the first predictions count", num_repeated
        )
        kept = np.zeros(len(self.image_ids), dtype=bool)
        kept[first] = True
        return detections.take(np.flatnonzero(np.repeat(kept, self.counts)))

    def _check(self, *, num_classes: int, with_masks: bool) -> None:
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= num_classes))
        if len(wrong):
            row = int(wrong[0])
            image = int(np.searchsorted(np.cumsum(self.counts), row, side="right"))
            raise ValueError(
                f"image {int(self.image_ids[image])}: predicted class {int(self.labels[row])}, but "
                f"the data set has {num_classes} classes, 0 to {num_classes - 1}; set "
                "MODEL.ROI_HEADS.NUM_CLASSES (MODEL.RETINANET.NUM_CLASSES) accordingly"
            )
        without = np.flatnonzero((self.counts > 0) & ~self.has_masks)
        if with_masks and len(without):
            raise ValueError(
                f"image {int(self.image_ids[without[0]])}: task 'segm' needs pred_masks, the "
                "predictions have none; set MODEL.MASK_ON True or evaluate tasks=('bbox',)"
            )


def _concatenate(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    # NumPy cannot concatenate no arrays.
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)
