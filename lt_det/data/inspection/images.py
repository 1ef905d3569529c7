"""Images of one json as it lists them: ids, sizes, names, and lists of classes."""

from __future__ import annotations

import os
from collections.abc import Container, Hashable, Mapping, Sequence
from typing import Any

from lt_det.data.annotations.lvis_format import FEDERATED_KEYS
from lt_det.data.annotations.naming import NUM_NAMED
from lt_det.data.annotations.schema import has_size, size_text
from lt_det.data.inspection.file_names import near_names, reason_for_none
from lt_det.data.inspection.findings import Finding, of_images
from lt_det.data.inspection.ids import as_int, colliding, is_int, repeated, size_of_texts


def entry_findings(
    file: str, content: Mapping[str, Any], *, known_sizes: Container[int] = ()
) -> list[Finding]:
    """Return what is wrong with the image entries of a json, files left out.

    Args:
        file: the json, for the findings.
        content: lists ``images``, ``annotations`` and ``categories`` of dicts.
        known_sizes: rows whose size their image file tells.
    """
    images = content["images"]
    ids = [image.get("id") for image in images]
    twice = repeated(ids) - {None}
    same_number = colliding(ids)
    names = [str(image.get("file_name") or image.get("coco_url")) for image in images]
    same_file = repeated(name for name in names if name != "None")
    annotated = {one.get("image_id") for one in content["annotations"]}
    empty = [row for row, i in enumerate(ids) if i not in annotated]

    def rows(wrong: list[bool]) -> list[int]:
        return [row for row, is_wrong in enumerate(wrong) if is_wrong]

    return [
        *of_images(
            file, images, rows([i in twice for i in ids]), harm="error", kind="repeated-image-id",
            what="'id' occurs more than once", advice="give every image its own id",
            mendable=_all_copies(images, twice),
        ),
        *of_images(
            file, images, rows([i is None for i in ids]), harm="error", kind="absent-image-id",
            what="no 'id'", advice="give every image its own number, which 'image_id' of its "
            "annotations is",
        ),
        *of_images(
            file, images, rows([i is not None and not is_int(i) for i in ids]), harm="error",
            kind="image-id-type",
            what="'id' is no whole number of 64 bits",
            mendable=all(type(i) in (str, float, int) for i in ids
                         if not is_int(i)) and not same_number and _all_copies(images, twice),
            advice="training and evaluation need numbers, here and in 'image_id'",
        ),
        *of_images(
            file, images, sorted(same_number), harm="error", kind="image-ids-collide",
            what="'id' is the same number as that of another image, written otherwise",
            advice="give every image its own number, here and in 'image_id'", details=same_number,
        ),
        *_sizes(file, images, known_sizes),
        *of_images(
            file, images, rows([n in same_file and ids[r] not in twice
                                for r, n in enumerate(names)]),
            harm="warning", kind="same-file-twice", what="same 'file_name' as another image",
            advice="the objects of each are background in the other: make it one image",
        ),
        *of_images(
            file, images, empty if annotated else [], harm="note", kind="empty-images",
            what="no annotation",
            advice="training leaves these out (DATALOADER.FILTER_EMPTY_ANNOTATIONS False keeps "
            "them as background); the evaluation has them",
        ),
        *_federated(file, images),
        *_listed_classes(file, content),
    ]  # fmt: skip


def _sizes(file: str, images: Sequence[Mapping[str, Any]], known: Container[int]) -> list[Finding]:
    without = [row for row, image in enumerate(images) if not has_size(image)]
    texts = [row for row in without if size_of_texts(images[row]) is not None]
    others = [row for row in without if row not in set(texts)]
    return [
        *of_images(
            file, images, texts, harm="error", kind="image-size-type", mendable=True,
            what="'width' and 'height' are texts", advice="write numbers, without quotes",
            details={row: size_text(images[row]) for row in texts[:NUM_NAMED]},
        ),
        *of_images(
            file, images, others, harm="error", kind="no-image-size",
            what="no 'width' and 'height' in pixels (whole numbers above 0)",
            advice="write those of the image file", mendable=all(row in known for row in others),
            details={row: size_text(images[row]) for row in others[:NUM_NAMED]},
        ),
    ]  # fmt: skip


def size_mending(
    file: str, images: Sequence[Mapping[str, Any]], sizes: Mapping[int, tuple[int, int]]
) -> list[Finding]:
    """Return one note of how many absent sizes the image files give."""
    rows = [row for row in sizes if not has_size(images[row])]
    return of_images(
        file, images, rows, harm="note", kind="size-known", what="the image file has the size that "
        "the json lacks", advice="a mended copy gets it", mendable=True,
    )  # fmt: skip


def name_findings(
    file: str,
    images: Sequence[Mapping[str, Any]],
    paths: Sequence[str | None],
    names: Mapping[int, str],
    *,
    image_root: str,
    used: Container[str] = (),
) -> list[Finding]:
    """Return what is wrong with file names.

    Args:
        file: the json, for the findings.
        images: its N entries.
        paths: N paths of :func:`~lt_det.data.inspection.file_names.image_paths`.
        names: its second value.
        image_root: folder, for the text.
        used: as :func:`~lt_det.data.inspection.file_names.near_names` takes it.
    """
    missing = [
        row
        for row, path in enumerate(paths)
        if row not in names and (path is None or not os.path.isfile(path))
    ]
    nowhere = [row for row in missing if paths[row] is None]
    at = {row: path for row in missing if (path := paths[row]) is not None}
    details = {row: reason_for_none(at[row]) for row in list(at)[:NUM_NAMED]}
    shown = [images[row].get("file_name") for row in details]
    near = near_names(shown, image_root, used=used) if details else {}
    for row, file_name in zip(list(details), shown):
        if file_name in near:
            details[row] += f"; there is {near[file_name]}"
    return [
        *of_images(
            file, images, nowhere, harm="error", kind="no-file-name", what="no 'file_name'",
            advice="write the path below the folder of the images",
        ),
        *of_images(
            file, images, list(at), harm="error",
            kind="missing-image", what=f"there is no such file under {image_root!r}",
            advice="correct --images or 'file_name', or take the images out of the json",
            details=details,
        ),
        *of_images(
            file, images, sorted(names), harm="error", kind="file-name", mendable=True,
            what="'file_name' leads nowhere, the file is there under another name",
            advice="write the path below the folder of the images, with slashes",
            details={row: f"is {name}" for row, name in names.items()},
        ),
    ]  # fmt: skip


def _all_copies(images: Sequence[Mapping[str, Any]], twice: set[Any]) -> bool:
    """Return whether entries of the same id are the same in all."""
    first: dict[Any, Mapping[str, Any]] = {}
    return all(
        first.setdefault(image.get("id"), image) == image
        for image in images
        if image.get("id") in twice
    )


def _federated(file: str, images: Sequence[Mapping[str, Any]]) -> list[Finding]:
    found = []
    for key in FEDERATED_KEYS:
        without = [row for row, image in enumerate(images) if key not in image]
        if len(without) < len(images):
            found += of_images(
                file, images, without, harm="warning", kind=f"absent-{key.replace('_', '-')}",
                what=f"no {key!r}, which other images have",
                advice="the evaluation counts no false positive of absent classes there"
                if key == "neg_category_ids"
                else "the evaluation takes every class as annotated completely there",
            )  # fmt: skip
    return found


def _listed_classes(file: str, content: Mapping[str, Any]) -> list[Finding]:
    """Return the images whose lists name classes that are none, or that are annotated."""
    images, annotations = content["images"], content["annotations"]
    known = {str(as_int(c.get("id"))) for c in content["categories"]} - {"None"}
    found = []
    for key in FEDERATED_KEYS:
        strange = {
            row: f"{odd[:NUM_NAMED]}"
            for row, image in enumerate(images)
            if (odd := [one for one in _list(image, key) if str(as_int(one)) not in known])
        }
        found += of_images(
            file, images, list(strange), harm="warning", details=strange,
            kind=f"unknown-{key.replace('_', '-')}",
            what=f"{key!r} names classes that are not in 'categories'",
            advice="ids of another version of the data? lt_det passes over them, other tools stop",
        )  # fmt: skip
    present = {(one.get("image_id"), one.get("category_id")) for one in annotations}
    both = {
        row: f"{odd[:NUM_NAMED]}"
        for row, image in enumerate(images)
        if (odd := [c for c in _list(image, FEDERATED_KEYS[0]) if (image.get("id"), c) in present])
    }
    return found + of_images(
        file, images, list(both), harm="warning", kind="absent-and-annotated", details=both,
        what=f"{FEDERATED_KEYS[0]!r} says that classes are not there of which there are objects",
        advice="take the classes out of the list, or their objects out of the image",
    )  # fmt: skip


def _list(image: Mapping[str, Any], key: str) -> list[Any]:
    value = image.get(key)
    return [one for one in value if isinstance(one, Hashable)] if isinstance(value, list) else []
