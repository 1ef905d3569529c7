"""Check OUTPUT_DIR before anything is computed for it, and keep what it holds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from detectron2.utils import comm

from lt_det.storage.atomic_write import atomic_file
from lt_det.storage.regular_file import check_own
from lt_det.storage.writable_folder import check_writable_folder

# Detectron2 opens these by name: it would write through a link, and wait for ever at a pipe.
_WRITTEN = ("config.yaml", "metrics.json", "last_checkpoint", "log.txt")


def check_output_folder(folder: str, *, name: str = "OUTPUT_DIR") -> None:
    """Raise unless OUTPUT_DIR is a folder that can be written, or can be made.

    The files that every run writes there must not be links, pipes or the like; the folder itself
    may be a link. Leaves no trace. The main process looks at all, others at their own log only:
    they write nothing else.

    Args:
        folder: value of OUTPUT_DIR; addresses with ``://`` are not looked at.
        name: what the user set it by, for messages.

    Raises:
        ValueError: names it and what is wrong.
    """
    if not isinstance(folder, str) or not folder.strip():
        raise ValueError(f"{name} must be the path of a folder, got {folder!r}")
    if "://" in folder:
        return
    if folder.endswith((".txt", ".log")):
        raise ValueError(
            f"{name} {folder!r} ends in {folder[-4:]}, which Detectron2 takes for the file of its "
            f"log: set another {name}"
        )
    path, rank = Path(os.path.abspath(folder)), comm.get_rank()
    if rank:
        _check_written(folder, path / f"log.txt.rank{rank}", name)
        return
    check_writable_folder(folder, name=name)
    for written in _WRITTEN if path.is_dir() else ():
        _check_written(folder, path / written, name)


def _check_written(folder: str, path: Path, name: str) -> None:
    try:
        check_own(path)
    except ValueError as error:
        raise ValueError(f"{name} {folder!r}: {error}, or set another {name}") from None


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
