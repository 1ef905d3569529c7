"""One result for all processes of a distributed run."""

from __future__ import annotations

import lt_det.detectron2_required  # noqa: F401  # isort: skip

from typing import Callable, TypeVar

import detectron2.utils.comm as comm

Result = TypeVar("Result")


def main_rank_result(compute: Callable[[], Result], *, distributed: bool) -> Result:
    """Call ``compute`` on every rank and return on every rank what it returned on the main one.

    An error on any rank is raised on all, so that none waits for one that is gone: as it is where
    it occurred, as a RuntimeError with its text elsewhere.

    Args:
        compute: may itself gather; must return something that can be pickled.
        distributed: False calls ``compute`` here and does not talk to the other ranks.
    """
    if not distributed or comm.get_world_size() == 1:
        return compute()
    result, error = None, None
    try:
        result = compute()
    except Exception as caught:
        error = caught
    # Exceptions need not survive pickling, their text does.
    text = None if error is None else f"{type(error).__name__}: {error}"
    shared = comm.all_gather((result if comm.is_main_process() else None, text))
    if error is not None:
        raise error
    for rank, (_, message) in enumerate(shared):
        if message is not None:
            raise RuntimeError(f"evaluation failed on rank {rank}: {message}")
    return shared[0][0]
