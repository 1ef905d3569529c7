"""Locks between processes, held by the system: a killed process leaves none behind.

Own code, as ``filelock`` empties the file that it locks and, before 3.20.1, follows links.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import time
from collections.abc import Iterator

from lt_det.storage.regular_file import open_regular

logger = logging.getLogger(__name__)

# So many seconds of waiting are not worth a word.
SAY_AFTER_SECONDS = 10.0
_LONGEST_NAP_SECONDS = 0.5
# Bytes in the file for who holds a lock.
_OWNER_SIZE = 128
_BUSY = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK}


@contextlib.contextmanager
def file_lock(
    path: str | os.PathLike[str], *, number: int | None = None, wait: bool = True
) -> Iterator[bool]:
    """Context that holds a lock; gives whether it does.

    Where files cannot be locked, everybody gets every lock: what is locked here is written whole
    or not at all, so that costs time only. The file is made, never emptied, never removed
    (removing it would let in a process beside one that waits for the removed file), and not
    reached through a link.

    Args:
        path: file of the lock, in a folder that exists.
        number: which of many locks in one file, of whole processes; None for the only one,
            which keeps threads apart too.
        wait: until it is free, with a word in the log after 10 s; else give False.
    """
    try:
        handle = _open(os.fspath(path))
    except (OSError, ValueError) as error:
        # Somebody put something there; or the folder cannot be written, which others say.
        is_planted = isinstance(error, ValueError)
        logger.log(logging.WARNING if is_planted else logging.DEBUG, "No lock: %s", error)
        yield True
        return
    try:
        yield _take(handle, os.fspath(path), number, wait=wait)
    finally:
        os.close(handle)  # gives the lock back


def _open(path: str) -> int:
    """Return a handle of a regular file that is nobody else's; made if it is not there."""
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644))
    open_regular(path, own=True).close()  # says what is wrong with it
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _take(handle: int, path: str, number: int | None, *, wait: bool) -> bool:
    started, is_said, nap = time.monotonic(), False, 0.01
    while not _try(handle, path, number):
        if not wait:
            return False
        if not is_said and time.monotonic() - started >= SAY_AFTER_SECONDS:
            is_said = True
            logger.info("Waiting for the lock %s of %s", path, _owner(handle, number))
        time.sleep(nap)
        nap = min(2 * nap, _LONGEST_NAP_SECONDS)
    if is_said:
        logger.info("Got the lock %s after %.0f s", path, time.monotonic() - started)
    _sign(handle, number)
    return True


def _try(handle: int, path: str, number: int | None) -> bool:
    try:
        import fcntl

        flags = fcntl.LOCK_EX | fcntl.LOCK_NB
        if number is None:
            fcntl.flock(handle, flags)
        else:
            fcntl.lockf(handle, flags, 1, number)
    except (ImportError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _BUSY:
            return False
        logger.debug("Files cannot be locked here (%s): %s", path, error)
    return True


def _sign(handle: int, number: int | None) -> None:
    """Write into the lock who holds it, for those who wait."""
    text = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%F %T')}"
    with contextlib.suppress(OSError):
        if os.fstat(handle).st_nlink == 1:  # else the file has another name, which may be another's
            content = text.encode("ascii", "replace")[:_OWNER_SIZE].ljust(_OWNER_SIZE)
            os.pwrite(handle, content, _OWNER_SIZE * (number or 0))


def _owner(handle: int, number: int | None) -> str:
    with contextlib.suppress(OSError):
        text = os.pread(handle, _OWNER_SIZE, _OWNER_SIZE * (number or 0)).decode("ascii", "replace")
        text = "".join(c for c in text if c.isprintable()).strip()
        if text:
            return text
    return "an unknown process"
