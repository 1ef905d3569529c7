"""Locks of the shards of one folder, so that runs side by side share the work."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import IO

logger = logging.getLogger(__name__)


class ShardLocks:
    """One file in which byte i is the lock of shard i; a killed process leaves none behind.

    Where files cannot be locked everyone gets every lock: shards appear whole or not at all, so
    that costs time only.
    """

    def __init__(self, folder: str) -> None:
        """Use, and create, ``folder``."""
        os.makedirs(folder, exist_ok=True)
        self._path = os.path.join(folder, "locks")

    @contextlib.contextmanager
    def taken(self, number: int, *, wait: bool) -> Iterator[bool]:
        """Context that holds a lock; gives whether it does.

        Args:
            number: of the shard.
            wait: until another process gives it back; else give False.
        """
        # Closing the file gives the lock back.
        with open(self._path, "ab") as file:
            yield self._lock(file, number, wait=wait)

    def _lock(self, file: IO[bytes], number: int, *, wait: bool) -> bool:
        try:
            import fcntl

            flags = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
            fcntl.lockf(file, flags, 1, number)
        except (BlockingIOError, PermissionError):
            return False
        except (ImportError, OSError) as error:
            logger.debug("No locks in %s: %s", self._path, error)
        return True
