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

import numpy as np
import torch
import torch.multiprocessing as mp

#: A hundred times what they take on an idle machine.
LIMIT_S = 600.0
# On macOS a process that has loaded Accelerate must not be forked.
_FORKED = "forkserver" if sys.platform == "linux" else "spawn"
multiprocessing.set_forkserver_preload(
    ["detectron2.engine", "detectron2.evaluation", "detectron2.modeling"]
)


def run_in_two_processes(
    main: Callable[[argparse.Namespace], None], folder: Path, *, new: bool = False
) -> None:
    """Call ``main``, with ``folder`` in its arguments, in both; return when both are done.

    Args:
        main: function of a module.
        folder: of their files.
        new: see :func:`spawn_within`.

    Raises:
        TimeoutError: if they are not done after ten minutes; they are ended.
    """
    spawn_within(_launched, (free_port(), main, folder), nprocs=2, new=new)


def spawn_within(
    work: Callable[..., None], arguments: tuple, *, nprocs: int, new: bool = False
) -> None:
    """Call ``work`` with the rank and ``arguments`` in each process; return when all are done.

    Args:
        work: function of a module.
        arguments: that can be pickled.
        nprocs: number of ranks.
        new: in new interpreters, whose sets have another order in each rank.

    Raises:
        TimeoutError: if they are not done after ten minutes; they are ended.
    """
    method = "spawn" if new else _FORKED
    words = (dict(os.environ), os.getcwd(), work, arguments)
    context = mp.start_processes(_rank, words, nprocs, join=False, start_method=method)
    join_within(context, LIMIT_S)


def run_python(
    program: str | Path, *words: object, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run code, or a script, about as ``python -c`` or ``python`` would; wait for it.

    What Detectron2 reads when it is imported, as DETECTRON2_DATASETS, is older, the end of the
    interpreter is not run, and classes of the program cannot be pickled.

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
        try:
            process.join(LIMIT_S)
            if process.exitcode is None:
                raise TimeoutError(f"a program had not ended after {LIMIT_S:g} s: {program}")
        finally:  # after an interrupt, too
            process.kill()
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
        args=(
            {**os.environ, **(environment or {})},
            os.getcwd(),
            program,
            [str(word) for word in words],
            streams,
        ),
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


def _become(environment: Mapping[str, str], folder: str) -> None:
    # The process that is forked has environment, folder and random states of its start.
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    np.random.seed(int.from_bytes(os.urandom(4), "little"))
    torch.seed()
    torch.set_num_threads(1)


def _rank(
    rank: int, environment: dict, folder: str, work: Callable[..., None], arguments: tuple
) -> None:
    _become(environment, folder)
    work(rank, *arguments)


def _program(
    environment: dict, folder: str, program: str | Path, words: list[str], streams: list[Path]
) -> None:
    for number, path in enumerate(streams, start=1):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    _become(environment, folder)
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
