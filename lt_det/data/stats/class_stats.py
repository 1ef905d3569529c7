"""Class statistics: how many images and instances each class of a data set has.

Annotations are counted in :func:`count_annotations` and nowhere else (tokens of texts in
:mod:`lt_det.data.stats.token_counts`). It counts what Detectron2 trains on: annotations with
``iscrowd`` are left out, since its data mapper drops them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from lt_det.data.annotations.checks import NUM_NAMED, box_is_valid, check_unique
from lt_det.data.stats.frequency_groups import FrequencyGroup, frequency_groups, group_members

Unit = Literal["image", "instance"]
SOURCES = ("annotations", "categories")


@dataclass(frozen=True)
class ClassStats:
    """Image and instance counts of each class, in the order of the contiguous ids 0..K-1.

    Made of plain Python values: it can be compared, hashed, put in a checkpoint that is loaded
    with ``weights_only`` and written to json.

    Attributes:
        name: data set, or the data sets joined by ``+``; used in messages only.
        class_names: K different names.
        image_counts: K numbers of images with at least one instance of the class.
        instance_counts: K numbers of instances.
        num_images: images with at least one annotation; the denominator of class frequencies.
        source: ``"annotations"`` if counted, ``"categories"`` if the json's categories said so.
        rare_max: most images of a rare class.
        common_max: most images of a common class.

    Raises:
        ValueError: if the numbers do not fit each other; names the data set and first classes.
    """

    name: str
    class_names: tuple[str, ...]
    image_counts: tuple[int, ...]
    instance_counts: tuple[int, ...]
    num_images: int
    source: str
    rare_max: int = 10
    common_max: int = 100

    def __post_init__(self) -> None:
        what = f"class statistics of {self.name!r}"
        if self.source not in SOURCES:
            raise ValueError(f"{what}: source must be one of {SOURCES}, got {self.source!r}")
        lengths = {
            "class_names": len(self.class_names),
            "image_counts": len(self.image_counts),
            "instance_counts": len(self.instance_counts),
        }
        if not self.class_names or len(set(lengths.values())) != 1:
            raise ValueError(f"{what}: need one entry for each class, got lengths {lengths}")
        if not all(isinstance(name, str) for name in self.class_names):
            raise ValueError(f"{what}: class_names must be texts")
        check_unique(self.class_names, what=f"{what}: class_names")
        numbers = (*self.image_counts, *self.instance_counts, self.num_images)
        odd = [n for n in numbers if isinstance(n, bool) or not isinstance(n, (int, np.integer))]
        if odd:
            raise ValueError(f"{what}: counts must be whole numbers, got {odd[:NUM_NAMED]}")
        bad = [
            f"{name}: {images} images, {instances} instances"
            for name, images, instances in zip(
                self.class_names, self.image_counts, self.instance_counts
            )
            if not 0 <= images <= instances
        ]
        if bad:
            raise ValueError(
                f"{what}: counts must be 0 <= images <= instances, not so for {len(bad)} classes, "
                f"first {bad[:NUM_NAMED]}"
            )
        if self.num_images < max(self.image_counts):
            raise ValueError(
                f"{what}: num_images must be at least the largest of image_counts "
                f"({max(self.image_counts)}), got {self.num_images}"
            )
        frequency_groups((), rare_max=self.rare_max, common_max=self.common_max)  # checks limits

    @property
    def num_classes(self) -> int:
        """K, foreground classes."""
        return len(self.class_names)

    @property
    def zero_count_classes(self) -> tuple[str, ...]:
        """Names of the classes without any image."""
        return tuple(n for n, count in zip(self.class_names, self.image_counts) if count == 0)

    @property
    def frequency_groups(self) -> tuple[FrequencyGroup, ...]:
        """``(K,)`` of ``"r"``, ``"c"``, ``"f"`` by image count."""
        return frequency_groups(
            self.image_counts, rare_max=self.rare_max, common_max=self.common_max
        )

    def group_members(self) -> dict[str, np.ndarray]:
        """Return the contiguous ids (int64, ascending) of each of the groups r, c, f."""
        return group_members(self.frequency_groups)

    def counts(self, unit: Unit = "image") -> np.ndarray:
        """Return ``(K,)`` float64 counts, at least 1, so that their logarithm is finite.

        Args:
            unit: count images (as BALMS does) or instances.

        Raises:
            ValueError: for another unit.
        """
        if unit not in ("image", "instance"):
            raise ValueError(f"unit must be 'image' or 'instance', got {unit!r}")
        counts = self.image_counts if unit == "image" else self.instance_counts
        # A class never seen gets the prior of a class seen once: rarer than all others, finite.
        return np.maximum(np.asarray(counts, dtype=np.float64), 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as str, int and lists of them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassStats:
        """Return the object of which :meth:`to_dict` gave ``values``.

        Raises:
            ValueError: if a field is missing or unknown, or the numbers do not fit each other.
        """
        known = {field.name for field in fields(cls)}
        optional = {"rare_max", "common_max"}
        unknown = sorted(set(values) - known)
        missing = sorted(known - optional - set(values))
        if unknown or missing:
            raise ValueError(
                f"class statistics: missing fields {missing}, unknown fields {unknown}; "
                "they were written by another version, count the data set again"
            )
        fitting: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**fitting)


def count_annotations(
    dataset_dicts: Iterable[Mapping[str, Any]], class_names: Sequence[str], *, name: str
) -> ClassStats:
    """Return the statistics of a data set in Detectron2's format.

    Args:
        dataset_dicts: one dict for each image; of its ``annotations`` the keys ``category_id``
            (contiguous), ``iscrowd`` and, if there, ``bbox`` and ``bbox_mode`` are read. The dict
            of a classified image is its own annotation, see :func:`annotations_of`.
        class_names: K names in the order of the contiguous ids.
        name: data set, for messages.

    Raises:
        ValueError: if there is no image, a category id is not in 0..K-1, or a box has a NaN, an
            infinite number or a negative size; names the image ids.
    """
    num_classes = len(class_names)
    image_counts = np.zeros(num_classes, dtype=np.int64)
    instance_counts = np.zeros(num_classes, dtype=np.int64)
    num_images = num_records = 0
    bad_ids: list[str] = []
    bad_boxes: list[str] = []
    for record in dataset_dicts:
        num_records += 1
        class_ids = []
        for index, annotation in enumerate(annotations_of(record)):
            class_id: Any = annotation.get("category_id")
            if not _is_class_id(class_id, num_classes):
                bad_ids.append(f"{_place(record, num_records, index)}: {class_id!r}")
            elif "bbox" in annotation and not box_is_valid(
                annotation["bbox"], box_mode=int(annotation.get("bbox_mode", 1))
            ):
                bad_boxes.append(f"{_place(record, num_records, index)}: {annotation['bbox']}")
            elif not annotation.get("iscrowd", 0):
                class_ids.append(int(class_id))
        if class_ids:
            num_images += 1
            np.add.at(instance_counts, class_ids, 1)
            image_counts[list(set(class_ids))] += 1
    if num_records == 0:
        raise ValueError(f"data set {name!r}: the image list is empty; nothing to count")
    if bad_ids:
        raise ValueError(
            f"data set {name!r}: category_id of {len(bad_ids)} annotations is not in "
            f"0..{num_classes - 1} (thing_classes has {num_classes} names), first "
            f"{bad_ids[:NUM_NAMED]}; Detectron2 needs contiguous ids starting at 0"
        )
    if bad_boxes:
        raise ValueError(
            f"data set {name!r}: bbox of {len(bad_boxes)} annotations is not made of finite "
            f"numbers with width and height >= 0, first {bad_boxes[:NUM_NAMED]}; "
            "correct or remove them"
        )
    return ClassStats(
        name=name,
        class_names=tuple(class_names),
        image_counts=tuple(image_counts.tolist()),
        instance_counts=tuple(instance_counts.tolist()),
        num_images=num_images,
        source="annotations",
    )


def annotations_of(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the annotations of an image; a classified image with a ``category_id`` is its own."""
    return (record,) if "category_id" in record else record.get("annotations", ())


def merge_class_stats(stats: Sequence[ClassStats]) -> ClassStats:
    """Return the statistics of several data sets trained on together: sums of counts and images.

    Parts of one data set whose json files all declare the same counts of the whole are taken
    once: their sum would make every class look more frequent than it is.

    Args:
        stats: at least one, all with the same class names and group limits.

    Raises:
        ValueError: if there is none, or they differ in classes or limits.
    """
    if not stats:
        raise ValueError("stats must hold the statistics of at least one data set, got none")
    first = stats[0]
    parts: dict[tuple[Any, ...], ClassStats] = {}
    for index, one in enumerate(stats):
        if one.class_names != first.class_names:
            differing = [
                f"{i}: {a!r} / {b!r}"
                for i, (a, b) in enumerate(zip(first.class_names, one.class_names))
                if a != b
            ]
            raise ValueError(
                f"data sets {first.name!r} and {one.name!r} must have the same thing_classes to be "
                f"counted together, got {first.num_classes} and {one.num_classes} classes, first "
                f"that differ {differing[:NUM_NAMED]}"
            )
        if (one.rare_max, one.common_max) != (first.rare_max, first.common_max):
            raise ValueError(
                f"rare_max and common_max must be the same for all data sets, got those of "
                f"{first.name!r} and {one.name!r}"
            )
        declared = one.source == "categories"
        key = (one.image_counts, one.instance_counts) if declared else (index,)
        known = parts.get(key)
        # The larger of two estimates of the same number of images.
        if known is None or one.num_images > known.num_images:
            parts[key] = one
    merged = list(parts.values())
    return ClassStats(
        name="+".join(one.name for one in stats),
        class_names=first.class_names,
        image_counts=tuple(map(sum, zip(*(one.image_counts for one in merged)))),
        instance_counts=tuple(map(sum, zip(*(one.instance_counts for one in merged)))),
        num_images=sum(one.num_images for one in merged),
        source="categories" if any(o.source == "categories" for o in merged) else "annotations",
        rare_max=first.rare_max,
        common_max=first.common_max,
    )


def _is_class_id(value: Any, num_classes: int) -> bool:
    """Return whether ``value`` is a whole number in 0..num_classes-1 (numpy's too)."""
    return isinstance(value, (int, np.integer)) and 0 <= int(value) < num_classes


def _place(record: Mapping[str, Any], num_records: int, index: int) -> str:
    return f"image {record.get('image_id', f'#{num_records - 1}')}, annotation #{index}"
