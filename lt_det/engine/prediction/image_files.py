"""Images to predict on: files and folders of the command line, without what was written before."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lt_det.data.images.lists import IMAGE_EXTENSIONS
from lt_det.data.images.system_files import is_system_file


@dataclass(frozen=True)
class ImageFile:
    """An image to predict on.

    Attributes:
        path: where it is.
        name: path below the folder that all images share, with slashes; unique.
    """

    path: str
    name: str


def find_images(
    inputs: Sequence[str | os.PathLike[str]],
    *,
    leave_out: str | os.PathLike[str] | None = None,
    notes: list[str] | None = None,
) -> list[ImageFile]:
    """Return the images of files and folders, sorted by name, each once.

    Folders are searched with all that is below them, for the endings of images; what begins with a
    dot, or is a system's, is left out. A file that is named is taken whatever its ending.

    Args:
        inputs: files and folders.
        leave_out: folder whose content is not taken: pictures of a call before may lie there.
        notes: gets a sentence about the other files of the folders, if there are any.

    Raises:
        FileNotFoundError: if an input does not exist.
        ValueError: if there is no image at all; says what was looked for.
    """
    outside = None if leave_out is None else os.path.realpath(leave_out)
    found: dict[str, str] = {}
    bases = []
    others: Counter[str] = Counter()
    for one in inputs:
        path = os.path.abspath(os.path.expanduser(os.fspath(one)))
        if os.path.isdir(path):
            bases.append(path)
            members = _members(path, outside, others)
        elif os.path.lexists(path):
            bases.append(os.path.dirname(path))
            members = [path]
        else:
            raise FileNotFoundError(f"{os.fspath(one)!r} does not exist: name images or folders")
        for member in members:
            found.setdefault(os.path.realpath(member), member)
    if not found:
        raise ValueError(
            f"no image in {', '.join(os.fspath(one) for one in inputs)}: looked for "
            f"files that end in {', '.join(IMAGE_EXTENSIONS)}"
            + (f"; others are there: {_endings(others)}" if others else "")
        )
    if others and notes is not None:
        notes.append(
            f"{sum(others.values())} files were left out, as their ending is none of "
            f"{', '.join(IMAGE_EXTENSIONS)}: {_endings(others)}. Name such a file to have it read."
        )
    root = os.path.commonpath(bases)
    images = [
        ImageFile(path, os.path.relpath(path, root).replace(os.sep, "/")) for path in found.values()
    ]
    return sorted(images, key=lambda image: image.name)


def _members(folder: str, outside: str | None, others: Counter[str]) -> list[str]:
    members = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in sorted(folders)
            if not is_system_file(name) and os.path.realpath(os.path.join(parent, name)) != outside
        ]
        for name in sorted(files):
            if name.lower().endswith(IMAGE_EXTENSIONS) and not is_system_file(name):
                members.append(os.path.join(parent, name))
            elif not is_system_file(name):
                others[os.path.splitext(name)[1].lower() or "none"] += 1
    return members


def _endings(others: Counter[str]) -> str:
    return ", ".join(f"{ending} ({number})" for ending, number in others.most_common(5))
