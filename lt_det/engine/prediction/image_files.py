"""Images to predict on: files and folders of the command line, without what was written before."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from lt_det.data.images.lists import IMAGE_EXTENSIONS


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
    inputs: Sequence[str | os.PathLike[str]], *, leave_out: str | os.PathLike[str] | None = None
) -> list[ImageFile]:
    """Return the images of files and folders, sorted by name, each once.

    Folders are searched with all that is below them, for the endings of images; what begins with a
    dot is left out. A file that is named is taken whatever its ending.

    Args:
        inputs: files and folders.
        leave_out: folder whose content is not taken: pictures of a call before may lie there.

    Raises:
        FileNotFoundError: if an input does not exist.
        ValueError: if there is no image at all; says what was looked for.
    """
    outside = None if leave_out is None else os.path.realpath(leave_out)
    found: dict[str, str] = {}
    bases = []
    for one in inputs:
        path = os.path.abspath(os.path.expanduser(os.fspath(one)))
        if os.path.isdir(path):
            bases.append(path)
            members = _members(path, outside)
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
        )
    root = os.path.commonpath(bases)
    images = [
        ImageFile(path, os.path.relpath(path, root).replace(os.sep, "/")) for path in found.values()
    ]
    return sorted(images, key=lambda image: image.name)


def _members(folder: str, outside: str | None) -> list[str]:
    members = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in sorted(folders)
            if name[0] != "." and os.path.realpath(os.path.join(parent, name)) != outside
        ]
        members += [
            os.path.join(parent, name)
            for name in sorted(files)
            if name[0] != "." and name.lower().endswith(IMAGE_EXTENSIONS)
        ]
    return members
