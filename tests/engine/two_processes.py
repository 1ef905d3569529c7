"""Processes on this machine, as torchrun starts them, for a limited time."""

from __future__ import annotations

import argparse
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

#: A hundred times what they take on an idle machine.
LIMIT_S = 600.0


def run_in_two_processes(main: Callable[[argparse.Namespace], None], folder: Path) -> None:
    """Call ``main``, with ``folder`` in its arguments, in both; return when both are done.

    Raises:
        TimeoutError: if they are not done after ten minutes; they are ended.
    """
    spawn_within(_process, (free_port(), main, folder), nprocs=2)


def spawn_within(work: Callable[..., None], arguments: tuple, *, nprocs: int) -> None:
    """Call ``work`` with the rank and ``arguments`` in each process; return when all are done.

    Raises:
        TimeoutError: if they are not done after ten minutes; they are ended.
    """
    join_within(mp.spawn(work, arguments, nprocs=nprocs, join=False), LIMIT_S)


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def join_within(context: Any, seconds: float) -> None:
    """Wait for what ``mp.spawn`` started.

    Raises:
        TimeoutError: if it is not done after ``seconds``; its processes are ended.
    """
    end = time.monotonic() + seconds
    while not context.join(timeout=max(0.0, end - time.monotonic())):
        if time.monotonic() < end:
            continue
        for process in context.processes:
            process.kill()
        raise TimeoutError(
            f"the processes of a test were not done after {seconds:g} s: does a rank wait in a "
            "collective that another does not call?"
        )


def _process(rank: int, port: int, main: Callable, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
        LOCAL_WORLD_SIZE="2",
    )
    # Here and not above: tests of lower layers start processes that need no engine.
    from lt_det.engine.startup.launch import launch

    launch(main, argparse.Namespace(folder=folder, config_file="", opts=[]))
