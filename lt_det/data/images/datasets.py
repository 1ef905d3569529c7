"""Register image classification data sets with Detectron2, and make them long-tailed."""

from __future__ import annotations

import lt_det.detectron2_required  # noqa: F401  # isort: skip

import functools
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from lt_det.config_errors import naming_keys
from lt_det.data.annotations.checks import NUM_NAMED
from lt_det.data.images.lists import read_csv, read_folders, read_inaturalist, read_list
from lt_det.data.images.long_tail_subset import (
    exponential_counts,
    held_out_images,
    long_tailed_subset,
)
from lt_det.data.images.small_images import CIFAR_FOLDERS, read_cifar, read_digits, read_jpeg_npz
from lt_det.data.images.table import ImageTable

logger = logging.getLogger(__name__)

EVALUATOR_TYPE = "classification"

#: kind -> reader(path, split, name=name). "list" and "inaturalist" take the folder of the images
#: where the others take a split.
READERS: dict[str, Callable[..., ImageTable]] = {
    "cifar10": functools.partial(read_cifar, kind="cifar10"),
    "cifar100": functools.partial(read_cifar, kind="cifar100"),
    "npz": read_jpeg_npz,
    "digits": read_digits,
    "list": read_list,
    "inaturalist": read_inaturalist,
    "csv": read_csv,
    "folder": read_folders,
}
_WITH_IMAGE_ROOT = ("list", "inaturalist")

#: Ending of the name of the images that ``held_out`` keeps from a training set.
HELD_OUT = "_held_out"


def register_image_dataset(
    name: str,
    kind: str,
    path: str,
    split: str = "",
    *,
    imbalance_factor: float = 1.0,
    seed: int = 0,
    held_out: float = 0.0,
) -> None:
    """Register images for classification; they are read when they are asked for first.

    With ``held_out`` another data set of the name and :data:`HELD_OUT` has that share of the
    images of each class, and this one the rest.

    Records have "image_id", "category_id" and either "file_name" or "image", a uint8 RGB array.
    Registering the same again does nothing.

    Args:
        name: for ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        kind: key of :data:`READERS`.
        path: file or folder, as the reader of the kind says. If relative, it starts from the
            folder in the environment variable DETECTRON2_DATASETS (./datasets), as the paths of
            Detectron2's own data sets do.
        split: split, or folder of the images, as the reader says.
        imbalance_factor: above 1, the seeded long-tailed subset of
            :func:`lt_det.data.images.long_tail_subset.long_tailed_subset`.
        seed: of the subset, and of what is held out of it.
        held_out: see :func:`lt_det.data.images.long_tail_subset.held_out_images`.

    Raises:
        ValueError: if there is no such kind, the name is taken by another data set, or
            ``held_out`` is not in [0, 1).
    """
    if kind not in READERS:
        raise ValueError(f"data set {name!r}: kind must be one of {sorted(READERS)}, got {kind!r}")
    path = under_datasets(path)
    if kind in _WITH_IMAGE_ROOT:
        split = under_datasets(split)
    with naming_keys(share="held_out"):
        held_out_images(np.zeros(0), num_classes=0, share=held_out, seed=seed)  # checks it
    if seed < 0:
        raise ValueError(f"data set {name!r}: seed must be at least 0, got {seed}")
    source = (kind, path, split, float(imbalance_factor), seed, float(held_out))
    _register(name, source, is_held_out=False)
    if held_out:
        _register(f"{name}{HELD_OUT}", source, is_held_out=True)


def _register(name: str, source: tuple, *, is_held_out: bool) -> None:
    if name in DatasetCatalog.list():
        known = MetadataCatalog.get(name).get("image_source")
        if known != source:
            raise ValueError(
                f"data set name {name!r} is taken by (kind, path, split, imbalance factor, seed, "
                f"share held out) {known}, cannot give it to {source}; choose another name, or "
                f"forget the old one first: DatasetCatalog.remove({name!r}) and "
                f"MetadataCatalog.remove({name!r})"
            )
        return
    MetadataCatalog.get(name).set(
        evaluator_type=EVALUATOR_TYPE, image_source=source, image_held_out=is_held_out
    )
    DatasetCatalog.register(name, _ImageSet(name, source, is_held_out=is_held_out))


class _ImageSet:
    """Function that Detectron2 calls for the records; reads them once."""

    def __init__(self, name: str, source: tuple, *, is_held_out: bool) -> None:
        self._name = name
        self._read = functools.partial(_load, name, *source, is_held_out=is_held_out)
        self._records: list[dict[str, Any]] | None = None

    def __call__(self) -> list[dict[str, Any]]:
        if self._records is None:
            self._records, class_names = self._read()
            MetadataCatalog.get(self._name).set(thing_classes=class_names)
        return self._records

    def take_classes(self, class_names: Sequence[str]) -> None:
        records, metadata = self(), MetadataCatalog.get(self._name)
        own = metadata.thing_classes
        if own == list(class_names):
            return
        ids = {name: index for index, name in enumerate(class_names)}
        present = [own[c] for c in sorted({record["category_id"] for record in records})]
        unknown = [name for name in present if name not in ids]
        if unknown:
            raise ValueError(
                f"data set {self._name!r} has images of {len(unknown)} classes that the training "
                f"set has not, first {unknown[:NUM_NAMED]}; it has {len(ids)}, first "
                f"{list(class_names[:NUM_NAMED])}"
            )
        self._records = [{**r, "category_id": ids[own[r["category_id"]]]} for r in records]
        # Metadata refuse another value for what they have.
        del metadata.thing_classes
        metadata.set(thing_classes=list(class_names))


def take_classes(name: str, class_names: Sequence[str]) -> None:
    """Map the labels of a test or meta set to the class ids of the training set.

    Folders and lists say which classes they hold and not which there are: a class without a test
    image would move the ids of those after it. Data sets that were not registered here are left
    alone.

    Args:
        name: registered data set; it is read.
        class_names: of the training set, in the order of their ids.

    Raises:
        ValueError: if it has images of other classes; names them.
    """
    function = DatasetCatalog[name]
    if isinstance(function, _ImageSet):
        function.take_classes(class_names)


def share_images(name: str, other: str) -> bool:
    """Return whether two registered data sets are made of the same images or annotations.

    Another subset or another share held out of the same images counts as the same; what is held
    out, and the rest of it, do not.
    """
    first, second = (MetadataCatalog.get(n) for n in (name, other))
    files = [m.get("json_file") for m in (first, second)]
    if name == other or (all(files) and len({os.path.realpath(f) for f in files}) == 1):
        return True
    sources = [m.get("image_source") for m in (first, second)]
    if not all(sources):
        return False
    if sources[0] == sources[1]:
        return first.image_held_out == second.image_held_out
    (kind, split), (other_kind, other_split) = (_origin(*source[:3]) for source in sources)
    # No split of a csv is all of them.
    return kind == other_kind and (
        split == other_split or kind[0] == "csv" and not (split and other_split)
    )


def _origin(kind: str, path: str, split: str) -> tuple[tuple[str, str], str]:
    """Return kind and file or folder, and the split, so that equal ones are the same images."""
    if kind == "folder":
        return (kind, os.path.realpath(os.path.join(path, split))), ""
    path = "" if kind == "digits" else os.path.realpath(path)
    if kind in ("cifar10", "cifar100") and os.path.basename(path) in CIFAR_FOLDERS:
        path = os.path.dirname(path)
    return (kind, path), "" if kind in _WITH_IMAGE_ROOT else split


def register_images_from_config(
    entries: Sequence[Sequence[str]],
    *,
    long_tailed: Sequence[str] = (),
    imbalance_factor: float = 1.0,
    seed: int = 0,
    held_out: float = 0.0,
) -> None:
    """Register several data sets, as lists in a config say them.

    Args:
        entries: lists ``[name, kind, path, split]``; split may be left out.
        long_tailed: names of those that ``imbalance_factor`` and ``held_out`` are for, the
            training sets.
        imbalance_factor: see :func:`register_image_dataset`.
        seed: see there.
        held_out: see there.

    Raises:
        ValueError: for an entry of another form, or as :func:`register_image_dataset`.
    """
    for index, entry in enumerate(entries):
        fits = isinstance(entry, (list, tuple)) and len(entry) in (3, 4)
        if not fits or not all(isinstance(part, str) for part in entry):
            raise ValueError(
                f"entries[{index}] must be [name, kind, path, split], got {entry!r}; write "
                "[[my_train, folder, photos, train]]"
            )
        is_trained_on = entry[0] in long_tailed
        register_image_dataset(
            *entry,
            imbalance_factor=imbalance_factor if is_trained_on else 1.0,
            seed=seed,
            held_out=held_out if is_trained_on else 0.0,
        )


def under_datasets(path: str) -> str:
    """Return a path that starts from DETECTRON2_DATASETS (./datasets) if it is relative."""
    root = os.path.expanduser(os.environ.get("DETECTRON2_DATASETS", "datasets"))
    return os.path.join(root, os.path.expanduser(path))


def _load(
    name: str,
    kind: str,
    path: str,
    split: str,
    imbalance_factor: float,
    seed: int,
    held_out: float,
    *,
    is_held_out: bool,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return records and class names."""
    table = READERS[kind](path, split, name=name)
    class_names = list(table.class_names)
    if imbalance_factor == 1.0 and not held_out:
        return table.records(), class_names
    num_classes = len(table.class_names)
    kept = np.arange(len(table.labels))
    if imbalance_factor != 1.0:
        kept = long_tailed_subset(
            table.labels, num_classes=num_classes, imbalance_factor=imbalance_factor, seed=seed
        )
        _warn_other_profile(name, table, kept, imbalance_factor)
    apart = held_out_images(table.labels[kept], num_classes=num_classes, share=held_out, seed=seed)
    kept = kept[apart == is_held_out]
    logger.info(
        "Data set %r: %d of %d images, imbalance factor %g, held out %g, subset seed %d",
        *(name, len(kept), len(table.labels), imbalance_factor, held_out, seed),
    )
    return table.records(kept), class_names


def _warn_other_profile(
    name: str, table: ImageTable, kept: np.ndarray, imbalance_factor: float
) -> None:
    """Warn of classes that were too small for the profile."""
    sizes = np.bincount(table.labels, minlength=len(table.class_names))
    counts = np.bincount(table.labels[kept], minlength=len(sizes)).tolist()
    asked = exponential_counts(
        int(sizes.max()), num_classes=len(sizes), imbalance_factor=imbalance_factor
    )
    # Nearly balanced sets, as the digits are, nearly meet it.
    short = [k for k, (count, wanted) in enumerate(zip(counts, asked)) if count < 0.9 * wanted]
    if short:
        logger.warning(
            "Data set %r: imbalance factor %g is not met: %d classes have fewer images than its "
            "profile, which falls in label order; first %s with %s of %s. Images by class: %s to "
            "%s. A long-tailed set needs no imbalance factor",
            *(
                name,
                imbalance_factor,
                len(short),
                [table.class_names[k] for k in short[:NUM_NAMED]],
            ),
            *([counts[k] for k in short[:NUM_NAMED]], [asked[k] for k in short[:NUM_NAMED]]),
            *(min(counts), max(counts)),
        )
