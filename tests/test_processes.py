"""A test of two processes ends, whatever they do."""

from __future__ import annotations

import time

import pytest

from tests.processes import join_within


class Hanging:
    """What ``mp.spawn`` returns, of processes that never end."""

    def __init__(self) -> None:
        self.processes = [self, self]
        self.killed = 0

    def join(self, timeout: float) -> bool:
        time.sleep(min(timeout, 0.01))
        return False

    def kill(self) -> None:
        self.killed += 1


def test_processes_that_wait_for_each_other_are_ended_with_a_reason():
    context = Hanging()
    with pytest.raises(TimeoutError, match="a collective that another does not call"):
        join_within(context, 0.05)
    assert context.killed == 2
