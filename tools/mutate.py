#!/usr/bin/env python
"""Plant small faults and see whether the tests find them: a mutation run.

    python tools/mutate.py --count 60 --seed 0
    python tools/mutate.py --replace lt_det/config.py "FEW_MAX = 19" "FEW_MAX = 20"
    python tools/mutate.py --known

A seeded sample of mutants of losses, meta, evaluation and data, or of other --layers: other
arithmetic, comparisons, constants, and statements left out. Each is tried in a copy of the
repository, never in the tree: first against the test files of its layer that name its module, then
against the rest of them, and others that name it. A mutant that no test finds, a survivor, is
listed. The exit status is 1 if there is one.

With --known the faults are those of known_faults.yaml, each tried against the tests named there.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from known_faults import Fault, known_faults
from mutants import Mutant, mutant_of, places

REPOSITORY = Path(__file__).resolve().parents[1]
#: What is tried if nothing else is asked for.
LAYERS = ("losses", "meta", "evaluation", "data")
ALL_LAYERS = sorted(p.parent.name for p in (REPOSITORY / "lt_det").glob("*/__init__.py"))


def sample(root: Path, count: int, seed: int, layers: Sequence[str] = LAYERS) -> list[Mutant]:
    """Return mutants drawn without replacement from all places of the layers.

    Args:
        root: of the repository.
        count: how many; all if there are fewer.
        seed: of the draw.
        layers: folders of lt_det.
    """
    files = [p for layer in layers for p in sorted((root / "lt_det" / layer).rglob("*.py"))]
    sources = {p.relative_to(root).as_posix(): p.read_text() for p in files}
    all_places = [
        (path, number)
        for path, source in sources.items()
        for number in range(len(list(places(ast.parse(source)))))
    ]
    chosen = random.Random(seed).sample(all_places, min(count, len(all_places)))
    return [mutant_of(path, sources[path], number) for path, number in chosen]


def test_files(root: Path, path: str) -> tuple[list[str], list[str]]:
    """Return the test files that name a module, and the others of its layer."""
    module = path.removesuffix(".py").replace("/", ".")
    layer, stem = module.split(".")[1], module.rsplit(".")[-1]
    every = sorted(p for p in (root / "tests").rglob("test_*.py"))
    folder = root / "tests" / layer
    own = [p for p in every if p.is_relative_to(folder)]
    # Tests of the engine train, which takes long.
    far = [p for p in every if module in p.read_text() and not {"engine", layer} & set(p.parts)]
    named = [p for p in own if stem.strip("_") in p.stem or module in p.read_text()] or far
    rest = [p for p in (*own, *far) if p not in named]
    return ([str(p.relative_to(root)) for p in ps] for ps in (named, rest))  # type: ignore[return-value]


def run_tests(root: Path, tests: Sequence[str], seconds: float) -> tuple[str, str]:
    """Run tests in a copy of the repository up to the first that fails.

    The process is a fork of this one, which has imported the slow packages before.

    Returns:
        "passed", "failed" or "time limit"; and the test that failed, "" if that is not known.
    """
    output = root.parent / "output"
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            stream = os.open(output, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            for number in (1, 2):
                os.dup2(stream, number)
            os.chdir(root)
            os.environ["PYTHONPATH"] = str(root)
            sys.path[:] = [str(root), *(p for p in sys.path if p not in ("", str(REPOSITORY)))]
            import pytest

            code = int(
                pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests])
            )
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if os.waitstatus_to_exitcode(status) in (0, 5):
                return "passed", ""
            text = output.read_text(errors="replace")
            found = re.findall(r"^(?:FAILED|ERROR) (\S+?::.+?|\S+)(?: - .*)?$", text, re.MULTILINE)
            return "failed", found[-1] if found else ""
        time.sleep(0.1)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "time limit", ""


def copy_of(folder: Path) -> Path:
    """Return a copy of the tracked files in ``folder``."""
    listed = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files", "-z"], capture_output=True, check=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / name).is_file():
            shutil.copyfile(REPOSITORY / name, target)
    return folder


class Trial:
    """Tries mutants in a copy; knows which tests fail there without one."""

    def __init__(self, root: Path, seconds: float) -> None:
        self._root, self._seconds = root, seconds
        self._passes: dict[str, bool] = {}

    def __call__(self, mutant: Mutant, tests: Sequence[str] = ()) -> str:
        """Return "survived", or what found the mutant; the copy is as before then.

        Args:
            mutant: the fault.
            tests: that may find it; without any, those of its layer.
        """
        for files in [list(tests)] if tests else test_files(self._root, mutant.path):
            while files:
                without = [f"--deselect={test}" for test, ok in self._passes.items() if not ok]
                result, test = self._run(mutant.source, mutant.path, [*files, *without])
                if result == "time limit":
                    return result
                if result == "passed":
                    break
                if self._holds(test):
                    return f"found by {test}"
        return "survived"

    def _run(self, source: str, path: str, tests: Sequence[str]) -> tuple[str, str]:
        file = self._root / path
        before = file.read_text()
        file.write_text(source)
        try:
            return run_tests(self._root, tests, self._seconds)
        finally:
            file.write_text(before)

    def _holds(self, test: str) -> bool:
        """Return whether a test passes without a mutant; one that is not known does."""
        if "::" not in test:
            return True
        if test not in self._passes:
            self._passes[test] = run_tests(self._root, [test], self._seconds)[0] == "passed"
        return self._passes[test]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options; ``known`` are the faults, or None where drawn ones are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=60, help="mutants in the sample")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", nargs="+", choices=ALL_LAYERS, default=LAYERS)
    parser.add_argument("--seconds", type=float, default=300, help="for the tests of a mutant")
    parser.add_argument("--replace", nargs=3, metavar=("FILE", "OLD", "NEW"), action="append")
    parser.add_argument(
        "--known",
        nargs="*",
        metavar="WORD",
        help="faults of known_faults.yaml; with words, those that have one in their name",
    )
    args = parser.parse_args(arguments)
    try:
        args.known = None if args.known is None else known_faults(args.known)
    except ValueError as error:
        parser.error(f"--known: {error}")
    return args


def main(arguments: list[str] | None = None) -> int:
    """Try the mutants one after another; return 1 if one survives."""
    args = parse_arguments(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    data = REPOSITORY.parent / "shared" / "data"
    if data.is_dir():  # beside the repository, and not beside its copy
        os.environ.setdefault("LT_DET_TEST_DATA", str(data))
    mutants = []
    if args.known is not None:
        for fault in args.known:  # all of them are in their files, before the first is tried
            replaced(*fault[1:4])
    elif args.replace:
        mutants = [replaced(*one) for one in args.replace]
    else:
        mutants = sample(REPOSITORY, args.count, args.seed, args.layers)
    import detectron2.engine  # noqa: F401, before the forks
    import hypothesis  # noqa: F401
    import torchvision.transforms.v2  # noqa: F401

    survivors = []
    with tempfile.TemporaryDirectory() as name:
        trial = Trial(copy_of(Path(name) / "copy"), args.seconds)
        if args.known is not None:
            return tried(args.known, trial)
        for number, mutant in enumerate(mutants, 1):
            start = time.monotonic()
            result = trial(mutant)
            seconds = time.monotonic() - start
            print(f"{number}/{len(mutants)} {result} ({seconds:.0f} s) {mutant}", flush=True)
            if result == "survived":
                survivors.append(mutant)
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants were found by the tests")
    for mutant in survivors:
        print(f"survived: {mutant}")
    return int(bool(survivors))


def tried(faults: Sequence[Fault], trial: Trial) -> int:
    """Print a table of the faults with the test that turned red; return 1 if one has none."""
    print("| fault | test that turned red |\n| :--- | :--- |", flush=True)
    survivors = 0
    for fault in faults:
        result = trial(replaced(*fault[1:4]), fault.tests)
        # Without the name of a test it is a file that cannot be imported, or no such test.
        found = result.startswith("found by ") and "::" in result
        survivors += not found
        text = f"`{result.removeprefix('found by ')}`" if found else f"**none: {result}**"
        print(f"| {fault.name} | {text} |", flush=True)
    print(f"\n{len(faults) - survivors} of {len(faults)} known faults were found by their tests")
    return int(survivors > 0)


def replaced(path: str, old: str, new: str) -> Mutant:
    """Return the mutant that has ``new`` for the only ``old`` of a file."""
    source = (REPOSITORY / path).read_text()
    if source.count(old) != 1:
        raise SystemExit(f"--replace {path}: expected {old!r} once, found {source.count(old)}")
    line = source[: source.index(old)].count("\n") + 1
    return Mutant(path, line, old, new, source.replace(old, new))


if __name__ == "__main__":
    sys.exit(main())
