"""Interleaved timing, peak memory, and the rows of docs/reference/benchmarks.md.

    times = median_ms({"stock": stock, "ours": ours})
    rows = [Row("softmax head, 80 classes", times["stock"], times["ours"], "ms", target=50)]
    write_rows("post_processing", rows, title=..., about=..., command=...)

A script writes its rows to benchmarks/results/TOPIC.json (on a GPU: TOPIC.cuda.json);
benchmarks/report.py makes the table and the plot of all of them. `make bench` runs every script
here that has a main, then the report.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
ON_GPU = torch.cuda.is_available()
#: Processor time where there is no GPU: another process costs a wall clock more than some rows
#: differ. For what runs in one process only.
CLOCK: Callable[[], float] = time.perf_counter if ON_GPU else time.process_time
RESULTS = Path(__file__).resolve().parent / "results"
REPEATS = 7
MEGABYTE = 2**20

torch.set_num_threads(1)


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison: a line of the table and a bar of the plot.

    Attributes:
        name: what is measured, unique in its topic.
        baseline: value of the other side (stock Detectron2, a named peer).
        ours: value of this package. Both in ``unit``.
        unit: "ms", "s", "MB": less is better; a unit that ends in "/s": more is better.
        target: wanted ratio, None if there is none.
        baseline_name: the other side.
        note: shown behind the row, e.g. "same detections".
    """

    name: str
    baseline: float
    ours: float
    unit: str
    target: float | None = None
    baseline_name: str = "Detectron2"
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times better ours is; below 1 it is worse."""
        if self.unit.endswith("/s"):
            return self.ours / self.baseline
        return self.baseline / self.ours


def synchronize() -> None:
    """Wait for the GPU, if there is one: its work is queued, not done, when a call returns."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def median_ms(
    functions: Mapping[str, Callable[[], object]],
    *,
    repeats: int = REPEATS,
    warm_up: int = 1,
    clock: Callable[[], float] = CLOCK,
) -> dict[str, float]:
    """Run the functions in turns; return the median time of each in milliseconds.

    In turns, so that what else the machine does meets all of them alike; in another order each
    time, so that what one leaves behind (caches, freed memory) does not always meet the same one.

    Args:
        functions: name -> what is measured.
        repeats: runs behind each median.
        warm_up: runs before them.
        clock: gives the time in seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(warm_up + repeats):
        for name in turn_order(list(functions), repeat=repeat):
            synchronize()
            start = clock()
            functions[name]()
            synchronize()
            if repeat >= warm_up:
                times[name].append(1e3 * (clock() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def turn_order(names: list[str], *, repeat: int) -> list[str]:
    """Return the names from another one on after each two times, every second time backwards."""
    first = repeat // 2 % len(names)
    order = names[first:] + names[:first]
    return order[::-1] if repeat % 2 else order


def peak_growth_mb(function: Callable[[], object]) -> float:
    """Return by how much the peak resident memory rises above that before the call, in MB.

    Call it in a fresh process (:func:`in_child`): memory that was freed before, but not given
    back to the system, would be used again unseen.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / MEGABYTE
    before = _status_kb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew (Linux)
    function()
    return (_status_kb("VmHWM") - before) / 1024


def _status_kb(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def peak_mb() -> float:
    """Return the peak resident memory of this process since it started, in MB."""
    return _status_kb("VmHWM") / 1024


def in_child(script: str, *arguments: str) -> float:
    """Run ``python script arguments...`` and return the number in its last line of output."""
    result = subprocess.run(
        [sys.executable, script, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return float(result.stdout.strip().splitlines()[-1])


def machine() -> dict[str, Any]:
    """Return where and with what is measured; plain types."""
    import torchvision

    try:
        import detectron2

        detectron2_version = detectron2.__version__
    except ImportError:
        detectron2_version = "none"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "device": "cuda" if gpu else "cpu",
        "name": gpu or f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "detectron2": detectron2_version,
        "numpy": numpy.__version__,
        "commit": _commit(),
    }


def _commit() -> str:
    """Return the commit measured, with "+" if files differ from it.

    In a copy without a repository: that of build/gpu, which `make gpu-bundle` notes, or "unknown".
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, check=False
            ).stdout.strip()
        except OSError:
            return ""

    changed = git(
        "status", "--porcelain", "--untracked-files=no", "--", "lt_det", "benchmarks/*.py"
    )
    commit = git("rev-parse", "--short", "HEAD")
    noted = REPOSITORY / "build" / "gpu" / "commit"
    if not commit:
        return noted.read_text().strip() if noted.is_file() else "unknown"
    return commit + ("+" if changed else "")


def write_rows(
    topic: str,
    rows: Sequence[Row],
    *,
    title: str,
    about: str,
    command: str,
    repeats: int = REPEATS,
    extra: str = "",
    panels: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Print the rows and write them to benchmarks/results, whole or not at all.

    Args:
        topic: file name without its ending.
        rows: the comparisons.
        title: heading of the section.
        about: what is compared, on what input. Markdown, a few sentences.
        command: that repeats the measurement, from the root of the repository.
        repeats: runs behind each median.
        extra: markdown below the table, e.g. a second table with more columns.
        panels: line plots: "title", "x" and "y" (names of the axes), "log_x" (bool) and "lines"
            (label -> points (x, y)).

    Returns:
        the file.
    """
    where = machine()
    content = {
        "title": title,
        "about": about,
        "command": command,
        "repeats": repeats,
        "machine": where,
        "rows": [{**dataclasses.asdict(row), "ratio": row.ratio} for row in rows],
        "extra": extra,
        "panels": list(panels),
    }
    for row in rows:
        print(
            f"{row.name}: {row.baseline_name} {row.baseline:.4g} {row.unit}, lt_det "
            f"{row.ours:.4g} {row.unit}, {row.ratio:.3g} times",
            flush=True,
        )
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{topic}{'.cuda' if where['device'] == 'cuda' else ''}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)
    return path
