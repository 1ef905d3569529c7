"""File names as export tools write them, matched with the images that are there."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections.abc import Container, Mapping, Sequence
from pathlib import PureWindowsPath
from typing import Any
from urllib.parse import unquote

from lt_det.data.annotations.lvis_format import image_path_rule
from lt_det.data.images.system_files import is_system_file

# Files that a name which leads nowhere is compared with, letter by letter.
_MOST_COMPARED = 5000


def image_paths(
    images: Sequence[Mapping[str, Any]], image_root: str
) -> tuple[list[str | None], dict[int, str]]:
    """Return the path of each image, and the file names that mending puts in place of others.

    Tried for a file that is not there, in this order: slashes for backslashes; leading folders
    left out, one after the other; the only file of that name anywhere under the folder. Capitals,
    the two ways to write an accent, and the %20 and ?query of a web address make no difference.
    Two images never get the same file.

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
            found = _only_file(file_name, by_name, image_root)
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


def near_names(
    file_names: Sequence[Any], image_root: str, *, used: Container[str] = ()
) -> dict[str, str]:
    """Return file name -> a similar one that is there: another ending, or some other letters.

    The numbers in it are the same: names in a row are other images.

    Args:
        file_names: that lead nowhere; few, as each is compared with all that are there.
        image_root: folder of the images.
        used: :func:`place` of files that other entries name, which are not meant.
    """
    there = [
        path
        for paths in _files_under(image_root).values()
        for path in paths
        if place(os.path.join(image_root, path)) not in used
    ]
    stems = {_plain(os.path.splitext(os.path.basename(path))[0]): path for path in there}
    names = {_plain(os.path.basename(path)): path for path in there[:_MOST_COMPARED]}
    found = {}
    for file_name in file_names:
        if not isinstance(file_name, str):
            continue
        name = _plain(_parts(file_name)[-1]) if _parts(file_name) else ""
        same = stems.get(os.path.splitext(name)[0])
        alike = [one for one in names if _numbers(one) == _numbers(name)]
        close = difflib.get_close_matches(name, alike, n=1, cutoff=0.8)
        near = same if same is not None else names[close[0]] if close else None
        if near is not None and os.path.isfile(os.path.join(image_root, near)):
            found[file_name] = near
    return found


def place(path: str) -> str:
    """Return a path as it is compared with others."""
    return os.path.normpath(os.path.abspath(path))


def _numbers(name: str) -> list[str]:
    return [digits.lstrip("0") for digits in re.findall(r"\d+", name)]


def reason_for_none(path: str) -> str:
    """Return why no file is at a path: a link to nothing, a folder, or nothing there."""
    if os.path.isdir(path):
        return f"{path} is a folder"
    if os.path.islink(path):
        return f"{path} is a link to {os.readlink(path)}, where no file is"
    return f"not at {path}"


def _parts(file_name: str) -> list[str]:
    """Return folders and name of a path with any slashes, or of a web address."""
    if "://" in file_name:
        file_name = file_name.partition("?")[0]
    # A Windows path takes both kinds of slashes.
    path = PureWindowsPath(file_name)
    return [part for part in path.parts if part not in ("..", path.anchor)]


def _plain(name: str) -> str:
    """Return a name in which capitals, ways to write an accent, and %20 make no difference."""
    return unicodedata.normalize("NFC", unquote(name)).casefold().strip()


def _without_folders(file_name: str, image_root: str) -> str | None:
    """Return the longest end of a name under which there is a file, with slashes."""
    parts = _parts(file_name)
    for start in range(len(parts)):
        candidate = "/".join(parts[start:])
        if os.path.isfile(os.path.join(image_root, candidate)):
            return candidate
    return None


def _only_file(file_name: str, by_name: Mapping[str, Sequence[str]], image_root: str) -> str | None:
    """Return the only file whose path ends as a name does, the more folders the better."""
    parts = [_plain(part) for part in _parts(file_name)]
    same = by_name.get(parts[-1], []) if parts else []
    for start in range(len(parts)):
        end = "/" + "/".join(parts[start:])
        found = [path for path in same if f"/{_plain(path)}".endswith(end)]
        if found:
            is_file = os.path.isfile(os.path.join(image_root, found[0]))
            return found[0] if len(found) == 1 and is_file else None
    return None


def _files_under(folder: str) -> dict[str, list[str]]:
    """Return plain file name -> paths relative to the folder; without what systems leave there."""
    found: dict[str, list[str]] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_system_file(name)]
        for name in names:
            if not is_system_file(name):
                path = os.path.relpath(os.path.join(place, name), folder)
                found.setdefault(_plain(name), []).append(path.replace(os.sep, "/"))
    return found
