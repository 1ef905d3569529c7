"""The metric's recall thresholds, and how many of them a recall reaches."""

from __future__ import annotations

import functools

import numpy as np

#: The metric's.
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
#: Objects up to which :func:`reached_by_number` has a table.
MOST_IN_TABLE = 1024


def thresholds_reached(recall: np.ndarray) -> np.ndarray:
    """Return how many of the recall thresholds are at most each recall, in [0, 1]."""
    guess = np.minimum((recall * 100).astype(np.int64), 100)
    guess -= RECALL_THRESHOLDS[guess] > recall
    following = np.minimum(guess + 1, 100)
    guess += (RECALL_THRESHOLDS[following] <= recall) & (guess < 100)
    return guess + 1


@functools.cache
def reached_by_number() -> np.ndarray:
    """Return uint8 how many thresholds ``w`` of ``n`` objects reach, 0 for ``w`` = 0.

    It is at place ``n * (n + 1) / 2 + w``, for n up to :data:`MOST_IN_TABLE`.
    """
    objects = np.repeat(np.arange(MOST_IN_TABLE + 1), np.arange(1, MOST_IN_TABLE + 2))
    found = np.arange(len(objects)) - objects * (objects + 1) // 2
    reached = thresholds_reached(found / np.maximum(objects, 1)) * (found > 0)
    return reached.astype(np.uint8)
