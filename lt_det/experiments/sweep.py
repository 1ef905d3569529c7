"""Train one config with a grid of options and seeds, each run in a process of its own."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from lt_det.experiments.kept_runs import check_same_run, is_finished


@dataclass(frozen=True)
class SweepPoint:
    """One run of a sweep.

    Attributes:
        values: config key -> value, as on the command line.
        seed: SEED of the run.
    """

    values: Mapping[str, str]
    seed: int

    @property
    def name(self) -> str:
        """Return the name of the run's folder: last parts of the keys with values, and the seed."""
        parts = [f"{key.split('.')[-1].lower()}={value}" for key, value in self.values.items()]
        # Values may be paths, tuples or quoted strings.
        return re.sub(r"[^\w.=,+-]+", "_", ",".join([*parts, f"seed={self.seed}"]))


def sweep_points(grid: Mapping[str, Sequence[str]], *, seeds: Sequence[int]) -> list[SweepPoint]:
    """Return all combinations of values, each with all seeds.

    Raises:
        ValueError: if two runs would share a folder.
    """
    points = [
        SweepPoint(dict(zip(grid, values)), seed)
        for values in itertools.product(*grid.values())
        for seed in seeds
    ]
    names = [point.name for point in points]
    if len(set(names)) < len(names):
        raise ValueError(f"the sweep has runs of the same name: {sorted(names)}")
    return points


def run_sweep(
    train: Sequence[str],
    config_file: str,
    points: Sequence[SweepPoint],
    output: Path,
    *,
    options: Sequence[str] = (),
    parallel: int = 1,
) -> None:
    """Train and evaluate every point into ``output / point.name``; finished ones are kept.

    Those of another config or other options are found before anything runs. The first run goes
    alone: it fills what the others share, such as the region cache.

    Args:
        train: command that trains, such as python -m lt_det train.
        config_file: of all runs.
        points: see :func:`sweep_points`.
        output: folder of the sweep.
        options: KEY VALUE pairs of all runs.
        parallel: runs at a time, one CPU thread each where there are several.

    Raises:
        RuntimeError: if a run fails; names its log.
        ValueError: as :func:`~lt_det.experiments.kept_runs.check_same_run`.
    """

    def command_of(point: SweepPoint) -> list[str]:
        command = [*train, "--resume", "--config-file", config_file]
        command += [*options, *itertools.chain(*point.values.items())]
        return [*command, "SEED", str(point.seed), "OUTPUT_DIR", str(output / point.name)]

    def run(point: SweepPoint) -> None:
        folder = output / point.name
        run_unless_done(command_of(point), folder, quiet=True, single_thread=parallel > 1)
        bar.update()

    for point in points:
        check_same_run(command_of(point), output / point.name)

    with tqdm(total=len(points), desc="runs", unit="run", disable=None) as bar:
        if points:
            run(points[0])
        with ThreadPoolExecutor(parallel) as pool:
            list(pool.map(run, points[1:]))


def run_chains(
    chains: Sequence[Sequence[tuple[Sequence[str], Path]]], *, parallel: int = 1
) -> None:
    """Run trainings that build on each other one after the other, and such chains side by side.

    Runs that have their results already are kept; those of another config or other options are
    found before anything runs.

    Args:
        chains: for each chain its commands, each with the OUTPUT_DIR that it writes to.
        parallel: chains at a time. One shows its trainings on the terminal, several write to
            log files and show one progress bar.

    Raises:
        RuntimeError: if a training fails; names its log.
        ValueError: as :func:`~lt_det.experiments.kept_runs.check_same_run`.
    """
    for chain in chains:
        for command, folder in chain:
            check_same_run(command, folder)
    alone = parallel == 1
    with tqdm(total=sum(map(len, chains)), desc="runs", unit="run", disable=None) as bar:

        def run(chain: Sequence[tuple[Sequence[str], Path]]) -> None:
            for command, folder in chain:
                run_unless_done(command, folder, quiet=not alone, single_thread=not alone)
                bar.update()

        with ThreadPoolExecutor(parallel) as pool:
            list(pool.map(run, chains))


def run_unless_done(
    command: Sequence[str], folder: Path, *, quiet: bool = False, single_thread: bool = False
) -> None:
    """Run a training in a process of its own, unless ``folder`` has its final results.

    Args:
        command: to run.
        folder: OUTPUT_DIR of the training; what it prints goes to stdout.txt there.
        quiet: its progress bar too goes there and not to the terminal.
        single_thread: one CPU thread.

    Raises:
        RuntimeError: if it fails; names the log.
    """
    if is_finished(folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    # Threads that wait for others must not spin: on a busy machine that costs more than it saves.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Warnings of libraries about each other stay out of the progress bar.
    environment.setdefault("PYTHONWARNINGS", "ignore::UserWarning")
    if single_thread:
        environment["OMP_NUM_THREADS"] = "1"
    log = folder / "stdout.txt"
    with open(log, "w") as file:
        file.write(shlex.join(command) + "\n")
        file.flush()
        # The progress bar goes to the terminal (stderr); the log of the training to a file.
        status = subprocess.run(
            command, env=environment, stdout=file, stderr=file if quiet else None, check=False
        ).returncode
    if status:
        raise RuntimeError(f"a training failed with status {status}; see {log}")
