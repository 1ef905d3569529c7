"""Recall thresholds that are reached, against a count of them."""

from __future__ import annotations

import numpy as np

from lt_det.evaluation.analysis.recall_thresholds import (
    MOST_IN_TABLE,
    RECALL_THRESHOLDS,
    reached_by_number,
    thresholds_reached,
)


def test_thresholds_are_counted():
    recall = np.array([w / n for n in range(1, 120) for w in range(n + 1)])
    expected = (recall[:, None] >= RECALL_THRESHOLDS).sum(axis=1)
    np.testing.assert_array_equal(thresholds_reached(recall), expected)
    np.testing.assert_array_equal(thresholds_reached(RECALL_THRESHOLDS), np.arange(1, 102))


def test_the_table_holds_every_share():
    table = reached_by_number()
    for n in (1, 2, 7, 100, MOST_IN_TABLE):
        share = np.arange(n + 1) / n
        expected = (share[:, None] >= RECALL_THRESHOLDS).sum(axis=1)
        expected[0] = 0
        np.testing.assert_array_equal(table[n * (n + 1) // 2 :][: n + 1], expected)
    assert len(table) == (MOST_IN_TABLE + 1) * (MOST_IN_TABLE + 2) // 2
