"""Register LVIS- and COCO-format data sets with Detectron2, and count the classes of any.

The only file of the layer that imports Detectron2. COCO-format files need nothing from here:
``detectron2.data.datasets.register_coco_instances`` does it.
"""

from __future__ import annotations

import lt_det.detectron2_required  # noqa: F401  # isort: skip

import difflib
import functools
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from lt_det.data.annotations.checks import NUM_NAMED, check_annotations, check_categories
from lt_det.data.annotations.json_file import (
    check_exists,
    contiguous_ids,
    in_contiguous_order,
    read_annotation_json,
    read_categories,
)
from lt_det.data.annotations.lvis_format import lvis_dataset_dicts
from lt_det.data.annotations.naming import MATCHED
from lt_det.data.stats.class_stats import ClassStats, count_annotations, merge_class_stats
from lt_det.data.stats.json_stats import CountSource
from lt_det.data.stats.stats_cache import class_stats_of_json
from lt_det.data.warn_once import warn_of, warn_once


def register_lvis_format(
    name: str,
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str] = "",
    **metadata: Any,
) -> None:
    """Register a json in LVIS's format with Detectron2, evaluated by LVIS's rules.

    The annotations are read when the data set is asked for; the categories at once if the file
    exists, so that ``thing_classes`` and ``thing_dataset_id_to_contiguous_id`` are known. A file
    that is not there yet is an error when it is needed, not here. Registering the same files
    under the same name again does nothing.

    Args:
        name: for ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        json_file: LVIS-format json; ``~`` is expanded.
        image_root: folder of the images, see
            :func:`lt_det.data.annotations.lvis_format.image_path_rule`.
        metadata: further entries of the data set's metadata.

    Raises:
        ValueError: if the name is taken by other files, or the categories are unusable.
    """
    json_file = os.path.expanduser(os.fspath(json_file))
    image_root = os.path.expanduser(os.fspath(image_root))
    if name in DatasetCatalog.list():
        known = MetadataCatalog.get(name)
        registered = (known.get("json_file"), known.get("image_root"))
        if registered != (json_file, image_root):
            raise ValueError(
                f"data set name {name!r} is taken by json_file {registered[0]!r} with image_root "
                f"{registered[1]!r}, cannot give it to {json_file!r} with {image_root!r}; "
                "choose another name"
            )
        return
    found: dict[str, Any] = {"evaluator_type": "lvis"}
    if os.path.isfile(json_file):
        # Before anything is registered: unusable categories leave no half-made entry behind.
        found.update(_category_metadata(read_categories(json_file, name=name), name=name))
    MetadataCatalog.get(name).set(
        json_file=json_file, image_root=image_root, **{**found, **metadata}
    )
    DatasetCatalog.register(
        name, functools.partial(load_lvis_format_json, json_file, image_root, name=name)
    )


def register_from_config(entries: Sequence[Sequence[str]]) -> None:
    """Register several LVIS-format data sets, as lists in a config say them.

    Args:
        entries: lists ``[name, json_file, image_root]``; image_root may be left out.

    Raises:
        ValueError: for an entry of another form, or as :func:`register_lvis_format`.
    """
    for index, entry in enumerate(entries):
        fits = isinstance(entry, (list, tuple)) and len(entry) in (2, 3)
        if not fits or not all(isinstance(part, str) for part in entry):
            raise ValueError(
                f"entries[{index}] must be [name, json_file, image_root], got {entry!r}; "
                "write [[my_train, train.json, images], [my_val, val.json, images]]"
            )
        register_lvis_format(*entry)


def load_lvis_format_json(
    json_file: str | os.PathLike[str], image_root: str | os.PathLike[str] = "", *, name: str
) -> list[dict[str, Any]]:
    """Return an LVIS-format json as dicts that Detectron2's loaders take, sorted by image id.

    Also completes the metadata of ``name`` if the file was not there when it was registered.

    Args:
        json_file: LVIS-format json.
        image_root: folder of the images.
        name: data set.

    Raises:
        FileNotFoundError: names the path and the environment variable ``DETECTRON2_DATASETS``.
        ValueError: as :func:`lt_det.data.annotations.checks.check_annotations`, or if the classes
            of the file are not those it was registered with.
    """
    json_dict = read_annotation_json(PathManager.get_local_path(os.fspath(json_file)), name=name)
    warn_of(check_annotations(json_dict, name=name), name=name)
    metadata = MetadataCatalog.get(name)
    found = _category_metadata(json_dict["categories"], name=name)
    if metadata.get(MATCHED):
        found = _matched_metadata(json_dict["categories"], metadata, name=name)
    for key in ("thing_classes", "thing_dataset_id_to_contiguous_id"):
        if type(found[key])(metadata.get(key, found[key])) != found[key]:
            raise ValueError(
                f"data set {name!r}: {key} of its metadata is not that of {json_file}: the file "
                "changed since it was registered, or the metadata belongs to another data set"
            )
    metadata.set(**{key: value for key, value in found.items() if metadata.get(key) is None})
    return lvis_dataset_dicts(
        json_dict,
        name=name,
        image_root=image_root,
        id_map=found["thing_dataset_id_to_contiguous_id"],
        box_mode=BoxMode.XYWH_ABS,
    )


def class_stats_of(
    dataset_names: str | Sequence[str],
    *,
    count_source: CountSource = "auto",
    rare_max: int = 10,
    common_max: int = 100,
    cache_dir: str | os.PathLike[str] | None = None,
) -> ClassStats:
    """Return the class statistics of one or several data sets registered with Detectron2.

    With a ``json_file`` in its metadata a data set is counted from that file, through the cache;
    otherwise its registered function is called. Both leave crowds out, as training does. Classes
    without an image are named in one warning for each process.

    Args:
        dataset_names: one name or several that are trained on together.
        count_source: whether to trust the counts in an LVIS json's categories, see
            :func:`lt_det.data.stats.json_stats.count_json`; it concerns no other data sets.
        rare_max: most images of a rare class.
        common_max: most images of a common class.
        cache_dir: default: :func:`lt_det.storage.cache_folder.default_cache_folder`.

    Raises:
        KeyError: if a name is not registered; says which are close to it.
        FileNotFoundError: names the path and the environment variable ``DETECTRON2_DATASETS``.
        ValueError: if annotations or classes are unusable, or data sets do not fit each other.
    """
    names = [dataset_names] if isinstance(dataset_names, str) else list(dataset_names)
    for name in names:
        check_registered(name)
        use_own_classes(name)
    stats = merge_class_stats(
        [_stats_of_one(name, count_source=count_source, cache_dir=cache_dir) for name in names]
    )
    stats = replace(stats, rare_max=rare_max, common_max=common_max)
    if stats.num_images == 0:
        raise ValueError(f"data set {stats.name!r} has no annotation that training would use")
    if stats.zero_count_classes:
        warn_once(
            f"Data set {stats.name!r}: {len(stats.zero_count_classes)} of {stats.num_classes} "
            f"classes have no image, first {list(stats.zero_count_classes[:NUM_NAMED])}; they get "
            "the prior of a class seen once"
        )
    return stats


def class_names_of(name: str) -> list[str]:
    """Return the K class names of a registered data set; loads it where they are not known yet.

    Raises:
        KeyError: if it is not registered.
        ValueError: if it has no ``thing_classes``.
    """
    check_registered(name)
    if not MetadataCatalog.get(name).get("thing_classes"):
        DatasetCatalog.get(name)
    class_names = MetadataCatalog.get(name).get("thing_classes")
    if not class_names:
        raise ValueError(
            f"data set {name!r} has no thing_classes; set them with "
            f"MetadataCatalog.get({name!r}).thing_classes = [names in the order of the ids]"
        )
    return list(class_names)


def use_own_classes(name: str) -> None:
    """Undo the matching of a data set's classes with those of another, for training on it."""
    metadata = MetadataCatalog.get(name)
    if metadata.get(MATCHED):
        categories = read_categories(PathManager.get_local_path(metadata.json_file), name=name)
        for key in ("thing_classes", "thing_dataset_id_to_contiguous_id", MATCHED):
            delattr(metadata, key)
        found = _category_metadata(categories, name=name)
        metadata.set(**{k: v for k, v in found.items() if metadata.get(k) is None})


def check_registered(name: str) -> None:
    """Raise if Detectron2 knows no data set of that name.

    Raises:
        KeyError: gives the names that are close to it.
    """
    known = DatasetCatalog.list()
    if name not in known:
        close = difflib.get_close_matches(name, known) or sorted(known)[:NUM_NAMED]
        raise KeyError(
            f"data set {name!r} is not registered with Detectron2; close names: {close}. Register "
            "one of your own with lt_det.register or DATASETS in LT_DET; built-in ones need their "
            "files under the folder in the environment variable DETECTRON2_DATASETS"
        )


def _stats_of_one(
    name: str, *, count_source: CountSource, cache_dir: str | os.PathLike[str] | None
) -> ClassStats:
    metadata = MetadataCatalog.get(name)
    class_names = metadata.get("thing_classes")
    if metadata.get("json_file"):
        json_file = PathManager.get_local_path(os.fspath(metadata.json_file))
        check_exists(json_file, name=name)
        id_map = metadata.get("thing_dataset_id_to_contiguous_id")
        if id_map is None and class_names and metadata.get("evaluator_type") == "lvis":
            # Detectron2's LVIS reader and evaluator subtract 1, whatever ids the file has.
            id_map = {index + 1: index for index in range(len(class_names))}
        return class_stats_of_json(
            json_file,
            name=name,
            class_names=class_names,
            id_map=id_map,
            count_source=count_source,
            cache_dir=cache_dir,
        )
    try:
        dataset_dicts = DatasetCatalog.get(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"data set {name!r}: {error}; built-in data sets are looked for under the folder in "
            "the environment variable DETECTRON2_DATASETS"
        ) from error
    # Asked for again: loading may have completed it.
    return count_annotations(dataset_dicts, class_names_of(name), name=name)


def _matched_metadata(categories: Any, metadata: Any, *, name: str) -> dict[str, Any]:
    """Return the metadata of a data set with matched classes; of the file where it fits no more."""
    names, ids = metadata.thing_classes, metadata.thing_dataset_id_to_contiguous_id
    file_names = {category["id"]: category["name"] for category in categories}
    if any(file_names.get(i) != names[index] for i, index in ids.items()):
        return _category_metadata(categories, name=name)
    return {"thing_classes": names, "thing_dataset_id_to_contiguous_id": ids}


def _category_metadata(categories: Any, *, name: str) -> dict[str, Any]:
    """Return the metadata entries that follow from a json's categories: lists and dicts only.

    ``class_image_count`` is what Detectron2's federated loss reads.
    """
    check_categories(categories, name=name)
    ids = contiguous_ids(categories)
    ordered = in_contiguous_order(categories, ids, name=name)
    found: dict[str, Any] = {
        "thing_classes": [category["name"] for category in ordered],
        "thing_dataset_id_to_contiguous_id": ids,
    }
    if all(isinstance(category.get("image_count"), int) for category in ordered):
        found["class_image_count"] = [
            {"id": category["id"], "image_count": category["image_count"]} for category in ordered
        ]
    return found
