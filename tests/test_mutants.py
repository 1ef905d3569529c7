"""The faults that tools/mutate.py plants, drawn and known ones."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = '''"""Docstring 1."""
LIMIT = 3

def f(x: int = 2, *names) -> "1":
    """More than 4."""
    logger.info("x is %d", 7)
    if x < LIMIT and not names:
        raise ValueError(f"{x + 1} is below 5")
    x += 1
    return -x
'''


@pytest.fixture(scope="module")
def tools():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        yield importlib.import_module("mutants"), importlib.import_module("mutate")
    finally:
        sys.path.remove(str(ROOT / "tools"))


def test_each_place_gives_another_program(tools):
    mutants, _ = tools
    count = len(list(mutants.places(ast.parse(SOURCE))))
    found = [mutants.mutant_of("m.py", SOURCE, number) for number in range(count)]
    sources = {one.source for one in found}
    assert len(sources) == count
    assert ast.unparse(ast.parse(SOURCE)) not in sources
    for one in found:
        compile(one.source, "m.py", "exec")
        # What people read stays.
        for text in ("Docstring 1.", "More than 4.", "logger.info('x is %d', 7)", '"1"', "{x + 1}"):
            gone = "raise" in one.before and text == "{x + 1}"
            assert gone or text.replace('"', "'") in one.source.replace('"', "'")
    changes = {(one.line, one.before, one.after) for one in found}
    assert (2, "LIMIT = 3", "LIMIT = 4") in changes
    assert (9, "x += 1", "pass") in changes
    assert (9, "x += 1", "x -= 1") in changes
    assert (10, "return -x", "return x") in changes
    assert {one.after for one in found if one.before == "x < LIMIT"} == {"x <= LIMIT"}


def test_a_sample_depends_on_the_seed_only(tools):
    _, mutate = tools
    first, second, other = (mutate.sample(ROOT, 5, seed, ["meta"]) for seed in (0, 0, 1))
    assert first == second != other
    assert all(one.path.startswith("lt_det/meta/") for one in first)


def test_named_test_files_come_first(tools):
    _, mutate = tools
    named, rest = mutate.test_files(ROOT, "lt_det/meta/hypergradient.py")
    assert "tests/meta/test_hypergradient.py" in named
    assert "tests/meta/test_meta_sampler.py" in {*named, *rest}
    assert not set(named) & set(rest)


def test_a_replacement_must_be_of_one_place(tools):
    _, mutate = tools
    path = "lt_det/data/stats/frequency_groups.py"
    mutant = mutate.replaced(path, "FEW_MAX, MEDIUM_MAX = 19", "FEW_MAX, MEDIUM_MAX = 20")
    assert "= 20, 100" in mutant.source
    with pytest.raises(SystemExit, match="expected 'no such text' once, found 0"):
        mutate.replaced(path, "no such text", "")


def test_files_of_other_layers_that_name_a_module_are_tried_too(tools):
    _, mutate = tools
    named, rest = mutate.test_files(ROOT, "lt_det/tasks/train_samplers.py")
    assert named == ["tests/tasks/test_train_samplers.py"]
    assert "tests/tasks/test_listed_mapper.py" in rest
    assert "tests/data/sampling/test_instance_aware.py" in rest
    assert not any("/engine/" in path for path in rest)  # trainings


def test_known_faults_are_each_of_one_place_and_in_the_docs(tools):
    _, mutate = tools
    page = (ROOT / "docs" / "reference" / "losses.md").read_text()
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    for fault in mutate.known_faults():
        assert (ROOT / fault.path).read_text().count(fault.old) == 1, fault
        assert fault.old != fault.new
        compile(mutate.replaced(*fault[1:4]).source, fault.path, "exec")
        assert fault.name in rows, fault
        assert fault.tests
        for test in fault.tests:
            path, _, name = test.partition("::")
            assert f"\ndef {name}(" in (ROOT / path).read_text(), test


@pytest.mark.slow
def test_known_faults_are_found():
    command = [sys.executable, str(ROOT / "tools" / "mutate.py"), "--known"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0, found.stdout + found.stderr
