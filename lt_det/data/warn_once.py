"""Warnings about a data set: once in a process, however often it is loaded or counted."""

from __future__ import annotations

import functools
import logging

logger = logging.getLogger(__name__)


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning unless the same text was logged before."""
    logger.warning("%s", message)
