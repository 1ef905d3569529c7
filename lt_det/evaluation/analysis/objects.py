"""Ground truth as arrays, for statistics of a whole data set.

Shape shorthand: M objects, I images, K classes.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np

from lt_det.evaluation.analysis.overlaps import encoded
from lt_det.evaluation.lvis.encoded_masks import EncodedMasks
from lt_det.evaluation.lvis.ground_truth import LVISGroundTruth


@dataclass(frozen=True)
class ObjectPlaces:
    """Which objects there are in which images, and no more.

    Attributes:
        image_ids: ``(I,)`` int64, rising; a row stands for the image from here on.
        category_ids: ``(K,)`` int64, rising; likewise.
        images: ``(M,)`` int64 rows.
        classes: ``(M,)`` int64 rows.
        ignored: ``(M,)`` bool, objects that need not be found.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    images: np.ndarray
    classes: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True)
class Objects(ObjectPlaces):
    """Ground truth as arrays.

    Attributes:
        boxes: ``(M, 4)`` float64 XYWH in px.
        open_pairs: pairs ``image row * K + class row`` that are not annotated exhaustively, sorted.
        truth: where it is from.
    """

    boxes: np.ndarray
    open_pairs: np.ndarray
    truth: LVISGroundTruth

    @classmethod
    def of(cls, truth: LVISGroundTruth) -> Objects:
        """Return the arrays of a ground truth."""
        columns = truth.columns
        image_ids, category_ids = columns.image_ids, columns.category_ids
        known = set(truth.category_ids)
        open_pairs = [
            np.searchsorted(image_ids, image["id"]) * len(category_ids)
            + np.searchsorted(category_ids, category)
            for image in truth.images
            for category in image["not_exhaustive_category_ids"]
            if category in known
        ]
        return cls(
            image_ids=image_ids,
            category_ids=category_ids,
            images=columns.images,
            classes=columns.classes,
            ignored=columns.ignored,
            boxes=columns.boxes,
            open_pairs=np.array(sorted(open_pairs), dtype=np.int64),
            truth=truth,
        )

    @functools.cached_property
    def masks(self) -> EncodedMasks:
        """Run-length codes of the objects, of a ground truth with masks."""
        sizes = {image["id"]: (image["height"], image["width"]) for image in self.truth.images}
        return EncodedMasks.from_dicts(
            [encoded(a["segmentation"], *sizes[a["image_id"]]) for a in self.truth.annotations]
        )

    def digest(self) -> str:
        """Return a sha256, in hex, that changes with the objects, their boxes and the lists."""
        found = hashlib.sha256()
        for array in (
            *(self.image_ids, self.category_ids, self.images, self.classes),
            *(self.ignored, self.boxes, self.open_pairs),
        ):
            found.update(repr((array.dtype.str, array.shape)).encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def images_by_class(self) -> list[np.ndarray]:
        """Return for each class the rows of the images with an object of it to find."""
        kept = ~self.ignored
        pairs = np.unique(self.classes[kept] * len(self.image_ids) + self.images[kept])
        classes, images = np.divmod(pairs, len(self.image_ids))
        return np.split(images, np.searchsorted(classes, np.arange(1, len(self.category_ids))))
