"""Match the classes of a test set by name with those of the training set.

Export tools number the classes of each split anew, and write only those that occur in it. What an
id means is then not the same in both, and a model trained on one would be judged by another's.
"""

from __future__ import annotations

import lt_det.detectron2_required  # noqa: F401  # isort: skip

import functools
import os
from collections.abc import Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from lt_det.data.annotations.datasets import load_lvis_format_json
from lt_det.data.annotations.json_file import read_categories
from lt_det.data.annotations.naming import MATCHED, NUM_NAMED
from lt_det.data.stats.class_stats import ClassStats
from lt_det.data.stats.stats_cache import evaluation_stats_of_json
from lt_det.data.warn_once import warn_once


def check_evaluation_json(name: str) -> ClassStats | None:
    """Raise for, or warn of, whatever the evaluation of a registered data set would stumble over.

    Args:
        name: registered data set.

    Returns:
        Its counts, in the order of its own category ids; None if it has no json.

    Raises:
        FileNotFoundError: if the json is missing.
        ValueError: as :func:`~lt_det.data.annotations.checks.check_annotations`.
    """
    json_file = MetadataCatalog.get(name).get("json_file")
    if not json_file:
        return None
    return evaluation_stats_of_json(PathManager.get_local_path(os.fspath(json_file)), name=name)


def match_classes(name: str, class_names: Sequence[str], counts: ClassStats | None) -> None:
    """Map the classes of a test set by name to the class ids of the training set.

    Where ids and order agree nothing changes. Else its metadata get the K names of the training
    set and ``thing_dataset_id_to_contiguous_id`` of the categories that it has; classes that it
    lacks are left out of its evaluation.

    Args:
        name: registered data set.
        class_names: K names of the training set, in the order of their ids.
        counts: what :func:`check_evaluation_json` returned.

    Raises:
        ValueError: if it has objects of classes that the training set lacks, or no json to match
            by; names the classes.
    """
    metadata = MetadataCatalog.get(name)
    own = metadata.get("thing_classes")
    if counts is not None:
        _warn_without_objects(name, class_names, counts)
    if own is not None and list(own) == list(class_names):
        return
    if counts is None:
        if own is not None:
            raise ValueError(
                f"DATASETS.TEST {name!r} has not the classes of the training set in their order, "
                f"and no json file to match them by name: {_differing(own, class_names)}"
            )
        return
    ids = {class_name: index for index, class_name in enumerate(class_names)}
    unknown = [
        f"{class_name} ({count} objects)"
        for class_name, count in zip(counts.class_names, counts.instance_counts)
        if class_name not in ids and count
    ]
    if unknown:
        raise ValueError(
            f"DATASETS.TEST {name!r} has objects of {len(unknown)} classes that the training set "
            f"lacks, first {unknown[:NUM_NAMED]}; the {len(ids)} of the training set are "
            f"{_few(class_names)}. Train on them too (in 'categories' of the training json at the "
            "least), give both sets the same names, or take their objects out of the test json"
        )
    json_file = PathManager.get_local_path(os.fspath(metadata.json_file))
    categories = {c["id"]: c["name"] for c in read_categories(json_file, name=name)}
    mapping = {i: ids[categories[i]] for i in sorted(categories) if categories[i] in ids}
    if list(mapping.values()) == list(range(len(class_names))) == list(range(len(categories))):
        return  # read by Detectron2, which has not given it names yet
    warn_once(
        f"DATASETS.TEST {name!r}: its classes are matched with those of the training set by name, "
        f"as their ids or their order differ: {_differing(counts.class_names, class_names)}"
    )
    for key in ("thing_classes", "thing_dataset_id_to_contiguous_id"):
        if metadata.get(key) is not None:
            delattr(metadata, key)  # metadata refuse another value for what they have
    metadata.set(
        thing_classes=list(class_names),
        thing_dataset_id_to_contiguous_id=mapping,
        **({} if metadata.get(MATCHED) else {MATCHED: True}),
    )
    if getattr(DatasetCatalog[name], "func", None) is not load_lvis_format_json:
        # Detectron2's readers insist on the order of the file.
        DatasetCatalog.remove(name)
        DatasetCatalog.register(
            name,
            functools.partial(
                load_lvis_format_json, json_file, metadata.get("image_root", ""), name=name
            ),
        )


def _warn_without_objects(name: str, class_names: Sequence[str], counts: ClassStats) -> None:
    found = {n for n, count in zip(counts.class_names, counts.instance_counts) if count}
    without = [class_name for class_name in class_names if class_name not in found]
    if without and found:
        warn_once(
            f"DATASETS.TEST {name!r} has no object of {len(without)} of {len(class_names)} "
            f"classes, first {without[:NUM_NAMED]}: their AP is undefined (nan), and the means are "
            "over the others"
        )


def _differing(own: Sequence[str], class_names: Sequence[str]) -> str:
    pairs = [
        f"class {k} is {a!r} here and {b!r} in the training set"
        for k, (a, b) in enumerate(zip(own, class_names))
        if a != b
    ]
    text = "; ".join(pairs[:3])
    if len(own) != len(class_names):
        text += f"{'; ' if text else ''}{len(own)} classes here, {len(class_names)} there"
    return text


def _few(class_names: Sequence[str]) -> str:
    more = "" if len(class_names) <= NUM_NAMED else ", ..."
    return ", ".join(class_names[:NUM_NAMED]) + more
