"""File names as export tools write them, matched with the images that are there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import PureWindowsPath
from typing import Any

from lt_det.data.annotations.lvis_format import image_path_rule


def image_paths(
    images: Sequence[Mapping[str, Any]], image_root: str
) -> tuple[list[str | None], dict[int, str]]:
    """Return the path of each image, and the file names that mending puts in place of others.

    Tried for a file that is not there, in this order: slashes for backslashes; leading folders
    left out, one after the other; the only file of that name anywhere under the folder, capitals
    apart. Two images never get the same file.

    Args:
        images: entries of the json.
        image_root: folder of the images.

    Returns:
        N paths, as written where nothing else is there, None without any name; and row ->
        ``file_name`` relative to the folder.
    """
    rule = image_path_rule(
        [one for one in images[:1] if isinstance(one.get("file_name", ""), str)], image_root
    )
    paths = [_path(rule, image) for image in images]
    missing = [row for row, path in enumerate(paths) if path is None or not os.path.isfile(path)]
    taken = {
        os.path.normpath(path)
        for row, path in enumerate(paths)
        if path is not None and os.path.isfile(path)
    }
    candidates: dict[int, str] = {}
    by_name: dict[str, list[str]] | None = None
    for row in missing:
        file_name = images[row].get("file_name")
        if not isinstance(file_name, str) or not file_name:
            continue
        found = _without_folders(file_name, image_root)
        if found is None:
            by_name = _files_under(image_root) if by_name is None else by_name
            same = by_name.get(PureWindowsPath(file_name).name.lower(), [])
            found = same[0] if len(same) == 1 else None
        if found is not None:
            candidates[row] = found
    full = {row: os.path.normpath(os.path.join(image_root, n)) for row, n in candidates.items()}
    counts: dict[str, int] = {}
    for path in full.values():
        counts[path] = counts.get(path, 0) + 1
    names = {r: candidates[r] for r, p in full.items() if counts[p] == 1 and p not in taken}
    for row in names:
        paths[row] = os.path.join(image_root, names[row])
    return paths, names


def _path(rule: Any, image: Mapping[str, Any]) -> str | None:
    try:
        return str(rule(image))
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration):
        return None  # no name, and an id that is no number


def _without_folders(file_name: str, image_root: str) -> str | None:
    """Return the longest end of a name under which there is a file, with slashes."""
    # A Windows path takes both kinds of slashes.
    path = PureWindowsPath(file_name)
    parts = [part for part in path.parts if part not in ("..", path.anchor)]
    for start in range(len(parts)):
        candidate = "/".join(parts[start:])
        if os.path.isfile(os.path.join(image_root, candidate)):
            return candidate
    return None


def _files_under(folder: str) -> dict[str, list[str]]:
    """Return file name in small letters -> paths relative to the folder."""
    found: dict[str, list[str]] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.relpath(os.path.join(place, name), folder)
            found.setdefault(name.lower(), []).append(path.replace(os.sep, "/"))
    return found
