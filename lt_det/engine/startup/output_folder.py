"""Check OUTPUT_DIR before anything is computed for it, and keep what it holds."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from detectron2.utils import comm

from lt_det.storage.atomic_write import atomic_file
from lt_det.storage.regular_file import check_own

# Detectron2 opens these by name: it would write through a link, and wait for ever at a pipe.
_WRITTEN = ("config.yaml", "metrics.json", "last_checkpoint", "log.txt")


def check_output_folder(folder: str) -> None:
    """Raise unless OUTPUT_DIR is a folder that can be written, or can be made.

    The files that every run writes there must not be links, pipes or the like; the folder itself
    may be a link. Leaves no trace. The main process looks at all, others at their own log only:
    they write nothing else.

    Args:
        folder: value of OUTPUT_DIR; addresses with ``://`` are not looked at.

    Raises:
        ValueError: names OUTPUT_DIR and what is wrong.
    """
    if not isinstance(folder, str) or not folder.strip():
        raise ValueError(f"OUTPUT_DIR must be the path of a folder, got {folder!r}")
    if folder.startswith("~"):
        raise ValueError(
            f"OUTPUT_DIR {folder!r} begins with ~, which only load_config replaces: set it to the "
            f"whole path, or to './{folder}' if a folder has this name"
        )
    if "://" in folder:
        return
    path, rank = Path(os.path.abspath(folder)), comm.get_rank()
    if rank:
        _check_written(folder, path / f"log.txt.rank{rank}")
        return
    place = next(p for p in (path, *path.parents) if os.path.lexists(p))
    if not place.is_dir():
        what = "a link to nothing" if place.is_symlink() and not place.exists() else "no folder"
        raise ValueError(f"OUTPUT_DIR {folder!r}: {place} is {what}; set another OUTPUT_DIR")
    for name in _WRITTEN if place == path else ():
        _check_written(folder, path / name)
    try:
        # By writing: permission bits tell little to root, and nothing of a read-only disk.
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ValueError(
            f"OUTPUT_DIR {folder!r} cannot be written ({error.strerror or error} in {place}): set "
            "another OUTPUT_DIR, or make room"
        ) from error


def _check_written(folder: str, path: Path) -> None:
    try:
        check_own(path)
    except ValueError as error:
        raise ValueError(f"OUTPUT_DIR {folder!r}: {error}, or set another OUTPUT_DIR") from None


@contextlib.contextmanager
def config_of_started_runs(folder: str) -> Iterator[None]:
    """Put config.yaml back as it was if the block raises.

    Detectron2 writes it before data, weights and machine are checked: a run that is refused must
    not leave its config beside the checkpoints of another.

    Args:
        folder: value of OUTPUT_DIR.
    """
    if "://" in folder or not comm.is_main_process():
        yield
        return
    path = Path(folder, "config.yaml")
    is_new = not os.path.lexists(path)
    # A link or a pipe is refused, and stays.
    before = path.read_bytes() if path.is_file() and not path.is_symlink() else None
    try:
        yield
    except BaseException:
        # A folder that cannot be used is what the error is about.
        with contextlib.suppress(OSError):
            if is_new:
                path.unlink(missing_ok=True)
            elif before is not None and path.read_bytes() != before:
                with atomic_file(path, "wb") as file:
                    file.write(before)
        raise
