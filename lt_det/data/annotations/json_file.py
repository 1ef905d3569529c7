"""Read COCO- and LVIS-format json files without Detectron2, pycocotools or lvis."""

from __future__ import annotations

import json
import logging
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lt_det.data.annotations.file_kinds import foreign_kind, wide_encoding
from lt_det.data.annotations.mask_checks import mask_is_usable, mask_problem
from lt_det.data.annotations.mask_places import (
    AREA,
    PLACE,
    area_of_mask,
    is_far_below,
    mask_place,
)
from lt_det.data.annotations.naming import NUM_NAMED
from lt_det.data.annotations.repeated_lists import RepeatedListError, hooks, may_repeat_lists
from lt_det.data.annotations.run_lengths import sum_of_runs
from lt_det.storage.regular_file import check_regular, open_regular

logger = logging.getLogger(__name__)

# From this size on (bytes) reading takes seconds, so the log says that it happens.
_LARGE = 100 * 2**20


def read_annotation_json(
    json_file: str | os.PathLike[str],
    *,
    name: str,
    keep_segmentations: bool = True,
    object_hook: Callable[[dict[str, Any]], Any] | None = None,
) -> dict[str, Any]:
    """Return the content of a COCO- or LVIS-format json.

    Args:
        json_file: path.
        name: data set, for messages.
        keep_segmentations: False drops the masks while reading, which takes a quarter of the
            memory on LVIS. What is left in their place still tells
            :func:`~lt_det.data.annotations.checks.is_trained_on` one from the others.
        object_hook: see :func:`json.load`; a rule of its own for what to drop while reading.

    Raises:
        FileNotFoundError: names the path and the environment variable ``DETECTRON2_DATASETS``.
        ValueError: if the file is no json, no json object, nested too deeply, or has a list twice.
    """
    check_exists(json_file, name=name)
    if not keep_segmentations:
        object_hook = _drop_masks
    size = os.path.getsize(json_file)
    if size >= _LARGE:
        logger.info("Reading %s (%.1f GB), which takes a while", json_file, size / 2**30)
    try:
        with open_regular(json_file, "r", encoding="utf-8-sig") as file:
            keywords, check = hooks(object_hook=object_hook, may_repeat=may_repeat_lists(json_file))
            content = json.load(file, **keywords)
        check()
    except RecursionError as error:
        raise ValueError(
            f"data set {name!r}: {os.fspath(json_file)} is nested too deeply for a json of "
            "annotations; download or write it again"
        ) from error
    except RepeatedListError as error:
        raise ValueError(f"data set {name!r}: {os.fspath(json_file)}: {error}") from error
    except ValueError as error:  # includes UnicodeDecodeError
        kind = _kind_of(json_file) or (f"no valid json: {error}", "download or write it again")
        raise ValueError(
            f"data set {name!r}: {os.fspath(json_file)} is {kind[0]}; {kind[1]}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"data set {name!r}: {os.fspath(json_file)} must hold a json object with images, "
            f"annotations and categories, got a {type(content).__name__}"
        )
    return content


def _kind_of(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Return what a file is that is no json, and what to do, told by its beginning."""
    with open_regular(path) as file:
        data = file.read(2**16)
    wide = wide_encoding(data)
    if wide is not None:
        return f"in {wide[:6]}", "write it as utf-8; lt-det check-data --fix does"
    found = foreign_kind(data)
    return found and (f"no valid json but {found[0]}", found[1])


def check_exists(json_file: str | os.PathLike[str], *, name: str) -> None:
    """Raise if there is no such file.

    Raises:
        FileNotFoundError: names the path and the environment variable ``DETECTRON2_DATASETS``.
        ValueError: if it is a named pipe, a folder or another thing that is no file.
    """
    check_regular(json_file)
    if not os.path.isfile(json_file):
        root = os.environ.get("DETECTRON2_DATASETS")
        raise FileNotFoundError(
            f"data set {name!r}: annotation file {os.path.abspath(json_file)} does not exist. "
            "Detectron2 looks for its built-in data sets under the folder in the environment "
            "variable DETECTRON2_DATASETS (read when Detectron2 is imported; now "
            f"{root!r}, without it ./datasets); for a data set of your own correct the path it "
            "was registered with"
        )


def read_categories(json_file: str | os.PathLike[str], *, name: str) -> Any:
    """Return the ``categories`` of a json without reading all of it, if that can be done.

    The file is searched for the key, so a file of a gigabyte costs a fraction of a second. What
    does not look like a list of categories there makes the whole file be read.

    Args:
        json_file: path.
        name: data set, for messages.

    Raises:
        FileNotFoundError: as :func:`read_annotation_json`.
        ValueError: if the file is no json or has no ``categories``.
    """
    check_exists(json_file, name=name)
    found = _search_categories(Path(json_file)) if os.path.getsize(json_file) else None
    if found is None:
        found = read_annotation_json(json_file, name=name, keep_segmentations=False).get(
            "categories"
        )
    if not isinstance(found, list):
        raise ValueError(
            f"data set {name!r}: {os.fspath(json_file)} has no list 'categories', got "
            f"{type(found).__name__}"
        )
    return found


def contiguous_ids(categories: Sequence[dict[str, Any]]) -> dict[int, int]:
    """Return json category id -> 0..K-1 in the order of the ids, as Detectron2 numbers them."""
    return {raw: index for index, raw in enumerate(sorted(c["id"] for c in categories))}


def in_contiguous_order(
    categories: Sequence[dict[str, Any]], id_map: dict[int, int], *, name: str
) -> list[dict[str, Any]]:
    """Return the K categories sorted by contiguous id.

    Args:
        categories: the json's, checked.
        id_map: json category id -> contiguous id.
        name: data set, for messages.

    Raises:
        ValueError: unless ``id_map`` maps exactly the categories' ids onto 0..K-1.
    """
    ids = {category["id"] for category in categories}
    if set(id_map) != ids or sorted(id_map.values()) != list(range(len(ids))):
        only_json = sorted(ids - set(id_map))[:NUM_NAMED]
        only_map = sorted(set(id_map) - ids)[:NUM_NAMED]
        raise ValueError(
            f"data set {name!r}: thing_dataset_id_to_contiguous_id must map the {len(ids)} "
            f"category ids of the json onto 0..{len(ids) - 1}, got {len(id_map)} ids; first only "
            f"in the json: {only_json}, only in the metadata: {only_map}"
        )
    return sorted(categories, key=lambda category: id_map[category["id"]])


def _drop_masks(node: dict[str, Any]) -> dict[str, Any]:
    """Keep of a segmentation what the checks ask of it later; all of one that is none.

    Of polygons that is whether Detectron2 would drop them; of run lengths size and sum; of both
    whether they fit their box, and the area where the file's may be far too small.
    """
    mask = node.get("segmentation")
    if mask_problem(mask) is not None:
        return node
    if mask:
        node[PLACE] = mask_place(mask, node.get("bbox"))
        if is_far_below(node.get("area"), node.get("bbox")):
            node[AREA] = area_of_mask(mask)
    if isinstance(mask, dict) and mask:
        if isinstance(mask["counts"], list):
            node["segmentation"] = {"size": mask["size"], "counts": [sum_of_runs(mask["counts"])]}
    elif "segmentation" in node:
        node["segmentation"] = [] if mask_is_usable(mask) else [[]]
    return node


def _search_categories(path: Path) -> list[dict[str, Any]] | None:
    """Return the first list of objects with id and name behind a key ``categories``, or None."""
    key = b'"categories"'
    with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        # A key inside a text would have its quotes escaped, so a match is a key or a whole text.
        position = data.find(key)
        while position >= 0:
            colon, start = data.find(b":", position), data.find(b"[", position)
            between = data[position + len(key) : start] if start >= 0 else b"x"
            if colon >= 0 and between.strip() == b":":
                found = _decode_list(data, start)
                if found and all(isinstance(c, dict) and "id" in c and "name" in c for c in found):
                    return found
            position = data.find(key, position + len(key))
    return None


def _decode_list(data: mmap.mmap, start: int) -> Any:
    """Return the json value that begins at byte ``start``, or None; reads no more than needed."""
    length = 2**20
    while True:
        text = data[start : start + length].decode("utf-8", errors="ignore")
        try:
            return json.JSONDecoder().raw_decode(text)[0]
        except RecursionError:
            return None
        except ValueError:
            if start + length >= len(data):
                return None
            length *= 4
