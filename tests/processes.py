"""Processes of tests: forked from one that has Detectron2 imported, and for a limited time.

The import takes longer than most tests that need a process. Of lt_det nothing is imported there.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

#: A hundred times what they take on an idle machine.
LIMIT_S = 600.0
_FORKED = "forkserver"
multiprocessing.set_forkserver_preload(
    ["detectron2.engine", "detectron2.evaluation", "detectron2.modeling"]
)


def run_in_two_processes(main: Callable[[argparse.Namespace], None], folder: Path) -> None:
    """Call ``main``, with ``folder`` in its arguments, in both; return when both are done.

    Raises:
        TimeoutError: if they are not done after ten minutes; they are ended.
    """
    spawn_within(_launched, (free_port(), main, folder), nprocs=2)


def spawn_within(work: Callable[..., None], arguments: tuple, *, nprocs: int) -> None:
    """Call ``work`` with the rank and ``arguments`` in each process; return when all are done.

    Raises:
        TimeoutError: if they are not done after ten minutes; they are ended.
    """
    context = mp.start_processes(
        _rank, (dict(os.environ), work, arguments), nprocs, join=False, start_method=_FORKED
    )
    join_within(context, LIMIT_S)


def run_python(
    program: str | Path, *words: object, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run code, or a script, as ``python -c`` or ``python`` would; wait for it.

    Args:
        program: the code, or the path of the script.
        words: the arguments, ``sys.argv[1:]``.
        environment: added to this process's.

    Returns:
        The exit status, and what was written to stdout and stderr.

    Raises:
        TimeoutError: if it has not ended after ten minutes; it is ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        process = start_python(program, *words, environment=environment, output=Path(folder))
        process.join(LIMIT_S)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"a program had not ended after {LIMIT_S:g} s: {program}")
        texts = [Path(folder, name).read_text() for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(words, process.exitcode, *texts)


def start_python(
    program: str | Path,
    *words: object,
    environment: Mapping[str, str] | None = None,
    output: Path,
) -> BaseProcess:
    """Start what :func:`run_python` runs; ``stdout`` and ``stderr`` are files in ``output``."""
    streams = [output / name for name in ("stdout", "stderr")]
    process = multiprocessing.get_context(_FORKED).Process(
        target=_program,
        args=({**os.environ, **(environment or {})}, program, [str(w) for w in words], streams),
    )
    process.start()
    return process


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def join_within(context: Any, seconds: float) -> None:
    """Wait for what ``mp.start_processes`` started.

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


def _become(environment: Mapping[str, str]) -> None:
    # The process that is forked has the environment of the moment in which it was started.
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)


def _rank(rank: int, environment: dict, work: Callable[..., None], arguments: tuple) -> None:
    _become(environment)
    work(rank, *arguments)


def _program(environment: dict, program: str | Path, words: list[str], streams: list[Path]) -> None:
    for number, path in enumerate(streams, start=1):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    _become(environment)
    sys.argv = [str(program) if isinstance(program, Path) else "-c", *words]
    if isinstance(program, Path):
        sys.path.insert(0, str(program.parent))
        runpy.run_path(str(program), run_name="__main__")
    else:
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})


def _launched(rank: int, port: int, main: Callable, folder: Path) -> None:
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
