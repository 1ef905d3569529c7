"""What a pip-installed user gets."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: building leaves files in the tree."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("lt_det", "configs", "tests", "tools"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, tree / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tree)
    target = tmp_path_factory.mktemp("wheel")
    command = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *command, str(tree)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = target.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_has_package_configs_and_types_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == {"lt_det"}
    for folder, files in (("lt_det", "*.py"), ("configs", "*.yaml")):
        for path in (REPOSITORY / folder).rglob(files):
            inside = path.relative_to(REPOSITORY).as_posix()
            assert inside.replace("configs/", "lt_det/configs/", folder == "configs") in names
    assert "lt_det/py.typed" in names
    assert not [n for n in names if "test" in n.split("/")[1]]


@pytest.mark.slow
def test_an_installed_package_finds_its_configs_and_has_the_command(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (entry_points,) = (tmp_path / "site").glob("*.dist-info/entry_points.txt")
    assert "lt-det = lt_det.cli.commands:main" in entry_points.read_text()
    code = (
        "import lt_det; from lt_det.config_files import find_config; "
        "print(lt_det.__file__, find_config('lvis_balms_r50')); "
        "print(lt_det.load_config('lvis_balms_r50.yaml').OUTPUT_DIR)"
    )
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": "", "HOME": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    package, rest = done.stdout.split(" ", 1)
    config, output = rest.split()
    assert package == str(site / "lt_det" / "__init__.py")
    assert config.startswith(str(site / "lt_det" / "configs"))
    assert output == "output/lvis_balms_r50"
