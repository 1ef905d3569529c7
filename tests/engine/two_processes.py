"""Two processes on this machine, as torchrun starts them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.multiprocessing as mp

from lt_det.engine.startup.launch import launch
from tests.meta.test_meta_reweighter import free_port


def run_in_two_processes(main: Callable[[argparse.Namespace], None], folder: Path) -> None:
    """Call ``main``, with ``folder`` in its arguments, in both; return when both are done."""
    mp.spawn(_process, args=(free_port(), main, folder), nprocs=2)


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
    launch(main, argparse.Namespace(folder=folder, config_file="", opts=[]))
