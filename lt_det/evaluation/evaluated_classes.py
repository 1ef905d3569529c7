"""Classes of an LVIS evaluation: their ids in the json and their frequency groups."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from lt_det.data.annotations.naming import MATCHED
from lt_det.data.stats.class_stats import ClassStats

logger = logging.getLogger(__name__)


def category_ids_in_contiguous_order(
    metadata: Any, json_ids: Sequence[int], *, dataset_name: str
) -> list[int | None]:
    """Return K ids of the json, in the order of the model's classes; None where it has no such.

    Raises:
        ValueError: if metadata and json have different categories.
    """
    if metadata.get(MATCHED):
        found = {k: i for i, k in metadata.thing_dataset_id_to_contiguous_id.items()}
        return [found.get(k) for k in range(len(metadata.thing_classes))]
    mapping = metadata.get("thing_dataset_id_to_contiguous_id")
    if mapping is not None:
        source = "thing_dataset_id_to_contiguous_id"
        ids = sorted(mapping, key=lambda category_id: mapping[category_id])
    else:
        # Detectron2's loader of LVIS subtracts 1 where there is no mapping.
        source = "thing_classes (ids 1 to K, as there is no thing_dataset_id_to_contiguous_id)"
        ids = list(range(1, len(metadata.get("thing_classes", json_ids)) + 1))
    differing = sorted(set(ids) ^ set(json_ids))
    if differing:
        raise ValueError(
            f"{dataset_name!r}: the categories of the json and {source} differ: "
            f"{len(json_ids)} and {len(ids)} ids, first in one only: {differing[:5]}"
        )
    return list(ids)


def groups_by_category_id(
    class_stats: ClassStats | None,
    category_ids: Sequence[int | None],
    class_names: Sequence[str] | None,
) -> dict[int, str] | None:
    """Return category id -> "r", "c" or "f" of the training set; None without its statistics.

    Raises:
        ValueError: if its classes are not those of the evaluated set.
    """
    if class_stats is None:
        return None
    names = list(class_names) if class_names is not None else list(class_stats.class_names)
    if len(category_ids) != class_stats.num_classes or names != list(class_stats.class_names):
        differing = [p for p in zip(class_stats.class_names, names) if p[0] != p[1]]
        raise ValueError(
            f"class_stats of {class_stats.name!r} has {class_stats.num_classes} classes, the "
            f"evaluated data set {len(category_ids)}; first that differ: {differing[:3]}. "
            "Training and evaluation need the same classes in the same order"
        )
    groups = zip(category_ids, class_stats.frequency_groups)
    return {category_id: group for category_id, group in groups if category_id is not None}


def log_changed_groups(groups: Mapping[int, str], json_groups: Mapping[int, str]) -> None:
    """Log for how many categories the groups differ from those of the json."""
    changed = [i for i, group in json_groups.items() if groups.get(i) != group]
    if changed:
        logger.info(
            "Frequency groups are those of the training set; the json differs for %d categories",
            len(changed),
        )
