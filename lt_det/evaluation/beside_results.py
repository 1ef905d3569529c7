"""Let what is beside the results fail: files, tables and pictures cost a warning, never an AP."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def beside_results(what: str, *, files: Iterable[str | os.PathLike[str]] = ()) -> Iterator[None]:
    """Turn an error in the block into one warning; its traceback is logged at level debug.

    Args:
        what: is done in the block, for the warning.
        files: that the block writes. After an error those that are there are removed: they are of
            an earlier evaluation, or half of this one.
    """
    try:
        yield
    except Exception as error:
        logger.warning(
            "%s failed (%s: %s); the results are complete without",
            what,
            type(error).__name__,
            " ".join(str(error).split()),
        )
        logger.debug("%s failed:", what, exc_info=True)
        for path in files:
            with contextlib.suppress(OSError):
                os.remove(path)
