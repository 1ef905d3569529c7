"""Mapper that pastes objects of rare classes into training images before it augments them."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.data.detection_utils import read_image
from detectron2.structures import BoxMode

from lt_det.data.copy_paste.crops import Crop, CropCache
from lt_det.data.copy_paste.masks import box_of, mask_of
from lt_det.data.copy_paste.paste import PlacedObject, pasted_image, pasted_record
from lt_det.data.copy_paste.sources import PasteSources
from lt_det.tasks.listed_mapper import PASTED_CLASSES
from lt_det.tasks.named_image_mapper import NamedImageMapper, naming_image


class CopyPaste:
    """Draws objects of rare classes from a training set, and places for them in an image.

    All draws are of numpy's random state, as those of Detectron2's augmentations: in a
    :class:`~lt_det.engine.loading.train_stream.TrainStream` with a seed they depend on the
    seed and the place of the sample alone, whatever process loads it.

    Attributes:
        sources: what may be pasted.
    """

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        *,
        threshold: float = 0.001,
        max_objects: int = 3,
        scale: Sequence[float] = (0.5, 1.5),
        cache_mib: float = 64.0,
        category_ids: Mapping[int, int] | None = None,
        exhaustive: bool = False,
        image_format: str = "BGR",
    ) -> None:
        """Look through the training set.

        Args:
            records: of the training set, with masks.
            threshold: share of the images below which a class is pasted, see
                :class:`~lt_det.data.copy_paste.sources.PasteSources`.
            max_objects: an image gets 0 to so many objects, each number as likely.
            scale: smallest and largest factor of an object's sides; drawn evenly by its logarithm.
            cache_mib: memory of each loader process for objects that are cut out.
            category_ids: contiguous id -> id in the records' lists; None: the same.
            exhaustive: the data set has no lists, empty ones say nothing and stay.
            image_format: as the mapper's.

        Raises:
            ValueError: if a value is out of range, or no class is as rare.
        """
        low, high = scale
        if not 0 < low <= high < math.inf:
            raise ValueError(f"scale must be two numbers above 0, the smaller first, got {scale}")
        if max_objects < 1:
            raise ValueError(f"max_objects must be at least 1, got {max_objects}")
        if cache_mib < 0:
            raise ValueError(f"cache_mib must be at least 0, got {cache_mib}")
        self._records, self._max_objects = records, max_objects
        self.sources = PasteSources(records, threshold=threshold)
        self._scale = (math.log(low), math.log(high))
        self._crops = CropCache(int(cache_mib * 2**20))
        self._category_ids, self._exhaustive = category_ids, exhaustive
        self._format = image_format

    def objects(self, record: Mapping[str, Any]) -> list[PlacedObject]:
        """Return objects to paste into the image of ``record``, the last on top.

        Raises:
            ValueError: if the record does not say its size, or a source has no mask.
        """
        if not record.get("height") or not record.get("width"):
            raise ValueError("copy-paste needs 'height' and 'width' in the record of an image")
        return [
            self._object(record["height"], record["width"])
            for _ in range(np.random.randint(self._max_objects + 1))
        ]

    def _object(self, height: int, width: int) -> PlacedObject:
        category_id, row, place = self.sources.draw()
        crop = self._crops.get((row, place), functools.partial(self._cut, row, place))
        h, w = crop.mask.shape
        # One that is too large is made to fit.
        scale = min(math.exp(np.random.uniform(*self._scale)), height / h, width / w)
        h, w = (min(max(round(side * scale), 1), most) for side, most in ((h, height), (w, width)))
        x, y = np.random.randint(width - w + 1), np.random.randint(height - h + 1)
        return PlacedObject(category_id, crop.resized(h, w), x, y)

    def _cut(self, row: int, place: int) -> Crop:
        record = self._records[row]
        where = f"copy-paste from image {record.get('image_id')} ({record['file_name']})"
        segmentation = record["annotations"][place].get("segmentation")
        if not segmentation:
            raise ValueError(f"{where}: annotation number {place + 1} has no mask")
        with naming_image(record):
            image = read_image(record["file_name"], format=self._format)
        height, width = image.shape[:2]
        mask = mask_of(segmentation, height=height, width=width)
        if not mask.any():
            return Crop(image[:1, :1].copy(), np.zeros((1, 1), dtype=bool))
        x0, y0, x1, y1 = map(int, box_of(mask))
        rows, columns = slice(y0, y1), slice(x0, x1)
        return Crop(image[rows, columns].copy(), mask[rows, columns].copy())

    def record(self, record: Mapping[str, Any], objects: Sequence[PlacedObject]) -> dict[str, Any]:
        """Return the record of an image that ``objects`` are pasted into."""
        return pasted_record(
            record,
            objects,
            box_mode=BoxMode.XYXY_ABS,
            category_ids=self._category_ids,
            exhaustive=self._exhaustive,
        )

    def fingerprint(self) -> str:
        """Return what the samples depend on, beside the records, for the region cache."""
        return repr((self.sources.fingerprint(), self._max_objects, self._scale, self._format))


class CopyPasteMapper(NamedImageMapper):
    """Detectron2's ``DatasetMapper``, on images that objects were pasted into.

    Masks, boxes and lists are right again afterwards: see
    :func:`~lt_det.data.copy_paste.paste.pasted_record`. A sample has the key "pasted_classes".
    """

    def __init__(self, *, copy_paste: CopyPaste, **options: Any) -> None:
        """Build Detectron2's mapper.

        Args:
            copy_paste: what is pasted.
            options: of ``DatasetMapper``, by name.

        Raises:
            ValueError: if it makes polygons of masks, which cut masks are not, or key points.
        """
        if options.get("use_keypoint"):
            raise ValueError(
                "copy-paste (LT_DET.COPY_PASTE.ENABLED) knows no key points: set "
                "MODEL.KEYPOINT_ON False"
            )
        masks = options.get("use_instance_mask", False)
        if masks and options.get("instance_mask_format", "polygon") != "bitmask":
            raise ValueError(
                "copy-paste (LT_DET.COPY_PASTE.ENABLED) cuts pieces out of masks, which needs "
                "bitmasks: set INPUT.MASK_FORMAT bitmask"
            )
        super().__init__(**options)
        self._copy_paste = copy_paste
        self._paste_first = _PasteFirst(self.augmentations)
        self.augmentations: Any = self._paste_first  # the mapper calls them

    def __call__(self, dataset_dict: dict[str, Any]) -> Any:
        """Return the sample of a record, with objects pasted in.

        Raises:
            ValueError: as :meth:`CopyPaste.objects`, and as Detectron2's mapper.
        """
        objects = self._copy_paste.objects(dataset_dict)
        self._paste_first.objects = objects
        sample: Any = super().__call__(self._copy_paste.record(dataset_dict, objects))
        sample[PASTED_CLASSES] = [one.category_id for one in objects]
        return sample


class _PasteFirst:
    """Augmentations of an image, after objects were pasted into it."""

    def __init__(self, augmentations: Any) -> None:
        self._augmentations = augmentations
        self.objects: Sequence[PlacedObject] = ()

    def __call__(self, aug_input: Any) -> Any:
        aug_input.image = pasted_image(aug_input.image, self.objects)
        self.objects = ()
        return self._augmentations(aug_input)
