"""Mapper that adds to a sample what the annotation of its image says of each class."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from lt_det.data.annotations.lvis_format import FEDERATED_KEYS
from lt_det.data.warn_once import warn_once
from lt_det.losses.image_lists import CLASS_KNOWLEDGE, INCOMPLETE, KNOWN, UNKNOWN

logger = logging.getLogger(__name__)

#: Key of a sample whose mapper has pasted objects into it: list of their contiguous class ids.
PASTED_CLASSES = "pasted_classes"


class ListedMapper:
    """Another mapper, whose samples get the key "class_knowledge", ``(K,)`` uint8.

    The classes of an image are read from its record, before crops and filters of the mapper. Its
    lists are taken from the sample where that has them: a mapper may have changed them.

    Attributes:
        mapper: the other one.
    """

    def __init__(
        self,
        mapper: Callable[[Any], dict],
        *,
        num_classes: int,
        id_map: Mapping[int, int] | None = None,
        exhaustive: bool = False,
    ) -> None:
        """Hold the mapper.

        Args:
            mapper: record -> sample; None is a sample to be left out.
            num_classes: K.
            id_map: category id of the lists -> contiguous id; None: they are contiguous.
            exhaustive: an empty list of negatives means that all classes are annotated, since the
                data set has no such lists; else that none is verified absent.
        """
        self.mapper = mapper
        self._num_classes, self._id_map, self._exhaustive = num_classes, id_map, exhaustive

    def without_images(self) -> ListedMapper:
        """Return one like this whose samples hold the lists alone; it reads no image."""
        return ListedMapper(
            _no_sample,
            num_classes=self._num_classes,
            id_map=self._id_map,
            exhaustive=self._exhaustive,
        )

    def __call__(self, record: Any) -> Any:
        """Return the sample of a record."""
        # Before the mapper: one that changes its record in place would take the classes away.
        present = {one["category_id"] for one in record.get("annotations", ())}
        sample = self.mapper(record)
        if sample is None:
            return None
        present |= set(sample.get(PASTED_CLASSES, ()))
        lists = {key: sample.get(key, record.get(key)) for key in FEDERATED_KEYS}
        negative, incomplete = (self._contiguous(lists[key]) for key in FEDERATED_KEYS)
        if negative & present:
            warn_once(
                f"image {record.get('image_id')}: class index {min(negative & present)} is in "
                "neg_category_ids and annotated; LT_DET.IMAGE_LISTS takes it for known"
            )
        sample[CLASS_KNOWLEDGE] = class_knowledge(
            self._num_classes,
            present=present,
            negative=None if self._exhaustive or lists[FEDERATED_KEYS[0]] is None else negative,
            incomplete=incomplete,
        )
        return sample

    def _contiguous(self, ids: Collection[int] | None) -> set[int]:
        if self._id_map is None:
            return set(ids or ())
        return {self._id_map[i] for i in ids or () if i in self._id_map}


def _no_sample(record: Any) -> dict:  # noqa: ARG001
    return {}


def class_knowledge(
    num_classes: int,
    *,
    present: Collection[int],
    negative: Collection[int] | None,
    incomplete: Collection[int],
) -> Tensor:
    """Return ``(K,)`` uint8 of UNKNOWN, INCOMPLETE and KNOWN.

    KNOWN are the negative classes, and the present ones that are not incomplete.

    Args:
        num_classes: K.
        present: contiguous ids of the classes with an annotation.
        negative: of those verified absent; None: all classes are annotated.
        incomplete: of those with more objects than annotated.
    """
    knowledge = torch.full((num_classes,), UNKNOWN if negative is not None else KNOWN).byte()
    for classes, value in ((present, KNOWN), (incomplete, INCOMPLETE), (negative or (), KNOWN)):
        knowledge[torch.tensor(sorted(classes), dtype=torch.int64)] = value
    return knowledge
