"""Sources of copy-paste: the objects of rare classes in a training set, drawn by class weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_det.data.records.stored_records import StoredRecords
from lt_det.data.stats.class_stats import annotations_of


class PasteSources:
    """Objects of the classes with a frequency below a threshold, crowds left out.

    With f_c the share of the images that show class c and t the threshold, a class is drawn in
    proportion to ``sqrt(t / f_c)``, the repeat factor of LVIS (Gupta et al., arXiv:1908.03195);
    classes with ``f_c >= t`` are never drawn. Then one of its objects, all alike.

    Attributes:
        classes: ``(S,)`` contiguous ids of the classes that may be drawn, ascending.
        probabilities: ``(S,)`` of a class, with sum 1.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]], *, threshold: float) -> None:
        """Look through a training set.

        Args:
            records: Detectron2's data set dicts.
            threshold: t, a share of the images.

        Raises:
            ValueError: if it is not in (0, 1], or no class is as rare.
        """
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be in (0, 1], got {threshold}")
        index, place, classes, crowds = _objects_of(records)
        index, place, classes = index[~crowds], place[~crowds], classes[~crowds]
        num_classes = int(classes.max(initial=-1)) + 1
        pairs = np.unique(index * max(num_classes, 1) + classes)
        frequency = np.bincount(pairs % max(num_classes, 1), minlength=num_classes) / max(
            len(records), 1
        )
        self.classes = ((frequency > 0) & (frequency < threshold)).nonzero()[0]
        if not len(self.classes):
            lowest = frequency[frequency > 0].min(initial=1.0)
            raise ValueError(
                f"threshold {threshold} leaves no class to paste: the rarest is in {lowest:.3g} "
                "of the images; set a higher one"
            )
        weights = np.sqrt(threshold / frequency[self.classes])
        self.probabilities = weights / weights.sum()
        order = np.argsort(classes, kind="stable")
        self._objects = np.stack([index, place], axis=1)[order]
        self._starts = np.searchsorted(classes[order], np.arange(num_classes + 1))

    def draw(self) -> tuple[int, int, int]:
        """Return class, record and number of the annotation in it, by numpy's random state."""
        c = int(self.classes[np.random.choice(len(self.classes), p=self.probabilities)])
        row = np.random.randint(self._starts[c], self._starts[c + 1])
        record, place = self._objects[row].tolist()
        return c, record, place

    def fingerprint(self) -> str:
        """Return a hash of what is drawn, for the region cache."""
        digest = hashlib.sha256(self.probabilities.tobytes())
        for array in (self.classes, self._objects, self._starts):
            digest.update(array.tobytes())
        return digest.hexdigest()


def _objects_of(records: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, ...]:
    """Return record, number in it, class and crowd flag of each annotation."""
    if isinstance(records, StoredRecords):
        index, classes, crowds = records.instances()
    else:
        found = [
            (row, int(one["category_id"]), bool(one.get("iscrowd", 0)))
            for row, record in enumerate(records)
            for one in annotations_of(record)
        ]
        table = np.array(found, dtype=np.int64).reshape(-1, 3)
        index, classes, crowds = table[:, 0], table[:, 1], table[:, 2].astype(bool)
    first = np.searchsorted(index, np.arange(len(records)))
    return index, np.arange(len(index)) - first[index], classes, crowds
