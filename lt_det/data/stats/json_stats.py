"""Count classes in the content of a COCO- or LVIS-format json."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from lt_det.data.annotations.checks import NUM_NAMED, check_annotations, is_trained_on
from lt_det.data.annotations.json_file import (
    contiguous_ids,
    in_contiguous_order,
)
from lt_det.data.stats.class_stats import ClassStats, count_annotations
from lt_det.data.stats.declared_counts import DeclaredCounts, declared_counts
from lt_det.data.stats.frequency_groups import GROUP_NAMES, FrequencyGroup
from lt_det.data.warn_once import warn_of

logger = logging.getLogger(__name__)

CountSource = Literal["auto", "annotations", "categories"]


def count_json(
    json_dict: Mapping[str, Any],
    *,
    name: str,
    class_names: Sequence[str] | None = None,
    id_map: Mapping[int, int] | None = None,
    count_source: CountSource = "auto",
) -> ClassStats:
    """Return the class statistics of a COCO- or LVIS-format json.

    LVIS's categories carry ``image_count`` and ``instance_count`` of the whole training split;
    a subset of the split has fewer annotations, but the classes are as rare as they were.

    Args:
        json_dict: has images, annotations and categories.
        name: data set, for messages.
        class_names: K names in contiguous order, checked against the json's names and synonyms.
            Default: the json's names.
        id_map: json category id -> contiguous id. Default: by ascending id.
        count_source: ``"annotations"`` counts; ``"categories"`` takes the numbers of the json's
            categories; ``"auto"`` takes those if every category has them and they can be those
            of a larger data set of which this is a part, else counts; a warning says so where the
            two differ, see :mod:`lt_det.data.stats.declared_counts`. The number of images is not
            in the json: with declared counts it is *estimated* as (images here) * (sum of
            declared) / (sum of counted image counts), and at least the largest declared count.

    Raises:
        ValueError: for a json that :func:`~lt_det.data.annotations.checks.check_annotations`
            refuses, classes that differ from ``class_names`` or ``id_map``, counts that are asked
            for but not declared, or an unknown ``count_source``.
    """
    _check_count_source(count_source)
    doubts = check_annotations(json_dict, name=name)
    stats, more = count_checked_json(
        json_dict, name=name, class_names=class_names, id_map=id_map, count_source=count_source
    )
    warn_of(doubts + more, name=name)
    return stats


def count_checked_json(
    json_dict: Mapping[str, Any],
    *,
    name: str,
    class_names: Sequence[str] | None = None,
    id_map: Mapping[int, int] | None = None,
    count_source: CountSource = "auto",
) -> tuple[ClassStats, list[str]]:
    """Return :func:`count_json` of what ``check_annotations`` let pass, and what is doubtful.

    Arguments as there.
    """
    ids = contiguous_ids(json_dict["categories"]) if id_map is None else dict(id_map)
    if class_names is not None:
        _check_num_classes(json_dict["categories"], class_names, name=name)
    categories = in_contiguous_order(json_dict["categories"], ids, name=name)
    names = [c["name"] for c in categories] if class_names is None else list(class_names)
    _check_names(categories, names, name=name)

    by_image: dict[Any, list[dict[str, int]]] = defaultdict(list)
    for image in json_dict["images"]:
        by_image[image["id"]] = []
    for annotation in json_dict["annotations"]:
        if is_trained_on(annotation):
            by_image[annotation["image_id"]].append({"category_id": ids[annotation["category_id"]]})
    counted = count_annotations(
        ({"image_id": image, "annotations": found} for image, found in by_image.items()),
        names,
        name=name,
    )
    if count_source == "annotations":
        return counted, []
    declared = declared_counts(categories, json_dict["annotations"])
    if declared is None:
        if count_source == "categories":
            _refuse_undeclared(categories, name=name)
        return counted, []
    taken = count_source == "categories" or declared.verdict == "more"
    stats = _as_declared(counted, declared) if taken else counted
    return stats, declared.doubts(taken=taken)


def _as_declared(counted: ClassStats, declared: DeclaredCounts) -> ClassStats:
    # Without an annotation there is nothing to scale.
    share = sum(declared.images) / max(sum(counted.image_counts), 1)
    return replace(
        counted,
        image_counts=declared.images,
        instance_counts=declared.instances,
        num_images=max(round(counted.num_images * share), *declared.images),
        source="categories",
    )


def _check_count_source(count_source: str) -> None:
    if count_source not in ("auto", "annotations", "categories"):
        raise ValueError(
            "count_source must be 'auto', 'annotations' or 'categories', got " + repr(count_source)
        )


def declared_frequency_groups(
    categories: Sequence[Mapping[str, Any]],
) -> tuple[FrequencyGroup, ...] | None:
    """Return the ``frequency`` of LVIS categories in the order given, None if one has none.

    LVIS writes there the group by image count in the *training* split, in every split's file.
    """
    groups = tuple(category.get("frequency") for category in categories)
    return cast("tuple[FrequencyGroup, ...]", groups) if set(groups) <= set(GROUP_NAMES) else None


def _refuse_undeclared(categories: Sequence[Mapping[str, Any]], *, name: str) -> None:
    lacking = [
        category["name"]
        for category in categories
        for key in ("image_count", "instance_count")
        if type(category.get(key)) is not int
    ]
    which = f"first without: {list(dict.fromkeys(lacking))[:NUM_NAMED]}" if lacking else "all are 0"
    raise ValueError(
        f"data set {name!r}: count_source 'categories' needs a whole number 'image_count' and "
        f"'instance_count' in each of the json's 'categories'; {which}; use 'annotations'"
    )


def _check_num_classes(categories: Sequence[Any], class_names: Sequence[str], *, name: str) -> None:
    if len(categories) == len(class_names):
        return
    in_json = [category["name"] for category in categories]
    raise ValueError(
        f"data set {name!r}: 'categories' of the json has {len(categories)} classes, thing_classes "
        f"in its metadata {len(class_names)}; first only in the json: "
        f"{[n for n in in_json if n not in set(class_names)][:NUM_NAMED]}, only in thing_classes: "
        f"{[n for n in class_names if n not in set(in_json)][:NUM_NAMED]}"
    )


def _check_names(categories: Sequence[Any], class_names: Sequence[str], *, name: str) -> None:
    """Raise if a class is neither the category's name nor, as in Detectron2's LVIS, a synonym."""
    differing = [
        f"{index}: {category['name']!r} in the json, {class_name!r} in thing_classes"
        for index, (category, class_name) in enumerate(zip(categories, class_names))
        if class_name not in (category["name"], *category.get("synonyms", ()))
    ]
    if differing:
        raise ValueError(
            f"data set {name!r}: 'name' of {len(differing)} categories is not that of the class "
            f"in thing_classes, first {differing[:NUM_NAMED]}; the json belongs to another data "
            "set or its order is another"
        )
