"""Gather results on the main process, and return its result to all."""

from __future__ import annotations

import lt_det.detectron2_required  # noqa: F401  # isort: skip

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import detectron2.utils.comm as comm
import numpy as np
import torch
import torch.distributed as dist

from lt_det.evaluation.rank_watch import wait_for_all

Prepared = TypeVar("Prepared")
Result = TypeVar("Result")

# Bytes of one message: gloo counts them in 32 bits.
_MESSAGE = 2**28


def main_rank_result(
    prepare: Callable[[], Prepared], compute: Callable[[Prepared], Result], *, distributed: bool
) -> Result:
    """Call both on every rank and return on every rank what ``compute`` returned on the main one.

    An error on any rank is raised on all, so that none waits for one that is gone: as it is where
    it occurred, as a RuntimeError with its text elsewhere.

    Args:
        prepare: what each rank does by itself; must not talk to the others.
        compute: is given what ``prepare`` returned, when no rank failed in it. May gather; what
            can fail on one rank only comes after that. Must return something that can be pickled.
        distributed: False calls both here and does not talk to the other ranks.
    """
    if not distributed or comm.get_world_size() == 1:
        return compute(prepare())
    prepared, _ = _unless_one_fails(prepare, shared=False)
    return _unless_one_fails(lambda: compute(prepared), shared=True)[1]


def _unless_one_fails(call: Callable[[], Result], *, shared: bool) -> tuple[Result, Result]:
    """Return the results here and, if they are shared, on the main rank."""
    result: Any = None
    error = None
    try:
        result = call()
    except Exception as caught:
        error = caught
    # Exceptions need not survive pickling, their text does.
    text = None if error is None else f"{type(error).__name__}: {error}"
    wait_for_all("evaluation")
    of_ranks = comm.all_gather((result if shared and comm.is_main_process() else None, text))
    if error is not None:
        raise error
    for rank, (_, message) in enumerate(of_ranks):
        if message is not None:
            raise RuntimeError(f"evaluation failed on rank {rank}: {message}")
    return result, of_ranks[0][0]


def arrays_on_main_rank(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return on the main rank the arrays of all ranks, each concatenated along its first axis.

    They are received where they stay, one after another, so the main rank never holds more than
    the result and its own part. Every rank must call it, with the same names and dtypes. The
    others get nothing back.

    Args:
        arrays: name -> array of this rank; the first axes may differ between the ranks.
    """
    lengths = comm.all_gather({name: len(array) for name, array in arrays.items()})
    if len(lengths) == 1:
        return dict(arrays)
    group, rank, joined = _gloo_group(), comm.get_rank(), {}
    for name, array in arrays.items():
        array = np.ascontiguousarray(array)
        if rank:
            for message in _messages(array):
                dist.send(message, dst=0, group=group)
            continue
        ends = np.cumsum([length[name] for length in lengths])
        whole = np.empty((ends[-1], *array.shape[1:]), dtype=array.dtype)
        whole[: ends[0]] = array
        for source in range(1, len(lengths)):
            for message in _messages(whole[ends[source - 1] : ends[source]]):
                dist.recv(message, src=source, group=group)
        joined[name] = whole
    return joined


def _messages(array: np.ndarray) -> tuple[torch.Tensor, ...]:
    """Return the bytes of a contiguous array, in place, in pieces that can be sent."""
    return torch.from_numpy(array.reshape(-1).view(np.uint8)).split(_MESSAGE) if array.size else ()


@functools.cache
def _gloo_group() -> Any:
    """Return a process group for arrays in main memory; NCCL only moves those of GPUs."""
    return dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
