"""Warn about a data set once in a process, however often it is loaded or counted."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable

logger = logging.getLogger(__name__)


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning unless the same text was logged before."""
    logger.warning("%s", message)


def warn_of(findings: Iterable[str], *, name: str) -> None:
    """Log what :func:`~lt_det.data.annotations.checks.check_annotations` found doubtful, once."""
    for finding in findings:
        warn_once(f"Data set {name!r}: {finding}")
