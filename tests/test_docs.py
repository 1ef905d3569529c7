"""What README and docs tell a newcomer to type works as far as it can be checked without a run."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest

from lt_det.engine.startup.setup import argument_parser, load_config

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def commands() -> list[tuple[str, str]]:
    """Return page and command of every ``python tools/...`` in bash blocks and in line."""
    found = []
    for page in PAGES:
        text = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
        text += re.findall(r"`(python tools/[^`]+)`", page.read_text())
        for line in text:
            line = line.split("  #")[0].strip()
            if re.match(r"python tools/\w+\.py", line) and "..." not in line:
                found.append((page.name, line))
    return found


def parse(command: str) -> None:
    _, tool, *arguments = shlex.split(command)
    if tool == "tools/train_net.py":
        argument_parser().parse_args(arguments)
        return
    functions = runpy.run_path(str(REPOSITORY / tool))
    parse = functions.get("parse_args") or functions.get("parse_arguments")
    assert parse is not None, f"{tool} has no function that parses its arguments"
    parse(arguments)


@pytest.mark.parametrize(("page", "command"), commands())
def test_commands_parse(page, command):
    try:
        parse(command)
    except SystemExit as exit_:
        pytest.fail(f"{page}: {command!r} is refused (status {exit_.code})")


def test_there_are_commands_to_check():
    assert {page for page, _ in commands()} >= {"README.md", "balms.md"}


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "yaml")], ids=lambda p: p.name)
def test_yaml_blocks_load(page, tmp_path):
    configs = tmp_path / "configs"
    shutil.copytree(REPOSITORY / "configs", configs)
    paths = []
    for number, block in enumerate(blocks(page, "yaml")):
        name = re.match(r"# configs/([\w./]+\.yaml)\n", block)
        path = configs / (name[1] if name else f"block{number}.yaml")
        path.write_text(block)
        paths.append(path)
    loaded = {path.stem: load_config(str(path)) for path in paths}
    if page.name == "README.md":
        one, two = loaded["my_stage1"], loaded["my_balms"]
        assert one.MODEL.ROI_HEADS.NUM_CLASSES == two.MODEL.ROI_HEADS.NUM_CLASSES == 42
        assert one.DATASETS.TRAIN == two.DATASETS.TRAIN == ("my_train",)
        assert two.DATASETS.TEST == ("my_val",)
        assert (one.LT_DET.DECOUPLED, two.LT_DET.DECOUPLED) == (False, True)
        assert one.OUTPUT_DIR != two.OUTPUT_DIR


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_imports_of_python_blocks_exist(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                exec(compile(ast.Module([node], []), page.name, "exec"), {})
