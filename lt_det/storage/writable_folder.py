"""Check that a folder can be written before anything is computed for it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lt_det.storage.atomic_write import free_space

# Bytes: what a run logs at its start, and its config.
_LEAST = 2**18


def check_writable_folder(folder: str | os.PathLike[str], *, name: str = "--output") -> None:
    """Raise unless ``folder`` is a folder that can be written, or can be made. Leaves no trace.

    Args:
        folder: path; may be a link to a folder.
        name: key or argument that holds it, for messages.

    Raises:
        ValueError: names the argument, the place and what is wrong.
    """
    path, said = Path(os.path.abspath(folder)), f"{name} {os.fspath(folder)!r}"
    if os.fspath(folder).startswith("~"):
        raise ValueError(
            f"{said} begins with ~, which is replaced by a shell and in configs only: write the "
            f"whole path, or './{folder}' if a folder has this name"
        )
    place = next(p for p in (path, *path.parents) if os.path.lexists(p))
    if not place.is_dir():
        what = "a link to nothing" if place.is_symlink() and not place.exists() else "no folder"
        raise ValueError(f"{said}: {place} is {what}; set another {name}")
    try:
        # By writing: permission bits tell little to root, and nothing of a read-only disk.
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(_LEAST))
            file.flush()
    except OSError as error:
        raise ValueError(
            f"{said} cannot be written ({error.strerror or error} in {place}, of whose disk are "
            f"free {free_space(place)}): set another {name}, or make room"
        ) from error
