"""The check of a GPU, rehearsed on the CPU; how it keeps what a part found."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def check(monkeypatch):
    for folder in ("benchmarks", "tools"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    return {
        name: importlib.import_module(f"gpu_check.{name}")
        for name in ("results", "part", "__main__", "device")
    }


def test_a_wrong_check_is_kept_and_the_next_is_made(check, tmp_path):
    results = check["results"].Results(tmp_path / "a.json", "a")

    def wrong() -> str:
        raise AssertionError("2 is not 3")

    def not_here() -> str:
        raise check["results"].NotHereError("no such package")

    for function in (lambda: "fine", wrong, not_here):
        results.check("x", function)
        # Already on the disk.
        content = json.loads((tmp_path / "a.json").read_text())
        assert content["state"] == "running"
    assert [one["ok"] for one in content["checks"]] == [True, False, None]
    assert "2 is not 3" in content["checks"][1]["detail"]
    results.end("done")
    content = json.loads((tmp_path / "a.json").read_text())
    assert check["results"].is_wrong(content)
    table = check["__main__"].table([content])
    assert "WRONG: a: x: AssertionError: 2 is not 3" in table
    assert "not complete" not in table
    del content["checks"][1]
    assert not check["results"].is_wrong(content)
    assert check["results"].is_wrong({**content, "state": "broken"})


def test_a_part_that_is_not_complete_has_its_own_exit_status(check):
    main = check["__main__"]
    done = {"part": "a", "state": "done", "seconds": 1.0, "rows": [], "notes": []}
    done["checks"] = [{"name": "x", "ok": True, "detail": ""}]
    wrong = {**done, "checks": [{"name": "x", "ok": False, "detail": "2 is not 3"}]}
    assert main.exit_status([done]) == 0
    for state, checks in (("time limit", []), ("time limit", done["checks"]), ("left out", [])):
        cut = {**done, "part": "b", "state": state, "checks": checks}
        assert not check["results"].is_wrong(cut)
        assert main.exit_status([done, cut]) == 3
        assert main.exit_status([wrong, cut]) == 1
        assert main.table([done, cut]).endswith(f"not complete: b ({state})")
    assert main.exit_status([{**done, "checks": []}]) == 3


def test_limits_of_the_parts_grow_with_the_time_in_total(check, monkeypatch, tmp_path):
    main, limits = check["__main__"], {}

    def run_part(module, path, seconds, env):
        limits[module] = seconds
        found = [{"name": "x", "ok": True, "detail": ""}]
        about = {"part": module, "state": "done", "seconds": 1.0, "rows": [], "notes": []}
        return {**about, "checks": found}

    monkeypatch.setattr(main, "run_part", run_part)
    words = ["--device", "cpu", "--parts", "waits", "--output", str(tmp_path)]
    for seconds, limit in ((None, 360), (7200, 720), (10800, 1080), (100, 100)):
        more = [] if seconds is None else ["--seconds", str(seconds)]
        assert main.main([*words, *more]) == 0
        assert limits["gpu_check.waits"] == pytest.approx(limit, abs=1)


def test_tolerances_are_of_the_largest_value(check):
    import torch

    device = check["device"]
    one = [torch.tensor([100.0, 1e-3]), None]
    assert "1.0e-03" in device.compare(one, [torch.tensor([100.1, 0.0]), None], tolerance=2e-3)
    for two in ([torch.tensor([101.0, 0.0]), None], [torch.tensor([100.0, float("nan")]), None]):
        with pytest.raises(AssertionError):
            device.compare(one, two, tolerance=2e-3)
    with pytest.raises(AssertionError, match="one side only"):
        device.compare(one, [one[0], one[0]], tolerance=1.0)
    with device.same_draws():
        first = torch.rand(3)
    with device.same_draws():
        assert torch.equal(torch.rand(3, generator=torch.Generator()), first)


def test_the_bundle_takes_locked_packages_only(check, tmp_path):
    bundle = importlib.import_module("gpu_bundle")
    lock = (ROOT / "requirements-newer.lock").read_text()
    text = bundle.locked(lock, ["fvcore", "six"])
    names = [line.split("==")[0] for line in text.splitlines() if line[:1].isalpha()]
    assert names == ["fvcore", "six"]
    assert "--hash=sha256" in text
    bundle.locked(lock, list(bundle.PACKAGES))
    with pytest.raises(SystemExit, match="lacks .'nosuch'."):
        bundle.locked(lock, ["six", "nosuch"])


def test_every_part_finds_what_it_takes_from_other_modules(check, monkeypatch):
    monkeypatch.setattr("torch.set_num_threads", int)
    for name in [*check["__main__"].PARTS, "steps"]:
        module = importlib.import_module(f"gpu_check.{name}")
        assert name == "steps" or callable(module.run)
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                taken = getattr(module, node.value.id, None)
                if isinstance(taken, ModuleType):
                    assert hasattr(taken, node.attr), f"{name}: {node.value.id}.{node.attr}"


HANGS = """
import time
def run(results, seconds):
    results.check("first", lambda: "fine")
    time.sleep(1000)
"""


@pytest.mark.slow
def test_a_part_that_hangs_is_ended_and_what_it_found_is_kept(check, tmp_path):
    (tmp_path / "hangs.py").write_text(HANGS)
    main = check["__main__"]
    env = main.environment("cpu", "")
    env["PYTHONPATH"] += f":{tmp_path}"
    content = main.run_part("hangs", tmp_path / "out" / "hangs.json", 40, env)
    assert content["state"] == "time limit"
    assert [one["name"] for one in content["checks"]] == ["first"]
    assert json.loads((tmp_path / "out" / "hangs.json").read_text()) == content
    assert not check["results"].is_wrong(content)
    content = main.run_part("no_such_part", tmp_path / "out" / "no.json", 40, env)
    assert content["state"] == "broken"
    assert check["results"].is_wrong(content)


@pytest.mark.slow
def test_the_rehearsal_runs_through(tmp_path):
    command = [sys.executable, "benchmarks/gpu_check", "--device", "cpu", "--output", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    contents = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert len(contents) == 11
    assert {one["state"] for one in contents} == {"done"}
    assert all(one["checks"] or one["rows"] for one in contents)
