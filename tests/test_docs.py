"""What README and docs tell a newcomer to type works as far as it can be checked without a run."""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.roi_heads import fast_rcnn

from lt_det.engine.startup.setup import _keys, argument_parser, load_config, read_config
from lt_det.tasks.train_samplers import SAMPLERS

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCES = ("lt_det", "tools", "benchmarks")
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


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


def parse(command: str) -> argparse.Namespace:
    _, tool, *arguments = shlex.split(command)
    if tool == "tools/train_net.py":
        return argument_parser().parse_args(arguments)
    path = [str((REPOSITORY / tool).parent), *sys.path]  # as of a script
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", path)
        functions = runpy.run_path(str(REPOSITORY / tool))
    parse = functions.get("parse_args") or functions.get("parse_arguments")
    assert parse is not None, f"{tool} has no function that parses its arguments"
    return parse(arguments)


@pytest.mark.parametrize(("page", "command"), commands())
def test_commands_parse_and_have_keys_and_values_of_their_config(page, command):
    try:
        args = parse(command)
    except SystemExit as exit_:
        pytest.fail(f"{page}: {command!r} is refused (status {exit_.code})")
    files = [w for w in getattr(args, "stages", None) or [] if w.endswith(".yaml")]
    options = [*(getattr(args, "stages", None) or [])[len(files) :]]
    options += getattr(args, "opts", None) or getattr(args, "options", None) or []
    for file in files or [getattr(args, "config_file", "")]:
        # Some are the reader's own, of a yaml block.
        config = str(REPOSITORY / file) if file and (REPOSITORY / file).exists() else ""
        read_config(config, options)
        for key, *values in getattr(args, "grid", None) or []:
            for value in values:
                read_config(config, [*options, key, value])


def test_there_are_commands_to_check():
    assert {page for page, _ in commands()} >= {"README.md", "balms.md"}


KEY = re.compile(r"(?<![\w./-])[A-Z][A-Z0-9_]*(?:\.[A-Z][A-Z0-9_]*)+\b\*?(?!\.?[a-z])")
NAMING_KEYS = [
    *PAGES,
    *sorted(path for folder in SOURCES for path in (REPOSITORY / folder).rglob("*.py")),
    *sorted((REPOSITORY / "configs").rglob("*.yaml")),
]


def test_config_keys_that_a_text_names_exist():
    """Whole from LT_DET on, of others the last parts may stand alone; FOCAL_LOSS_* is a family."""
    known = set(_keys(read_config("")))
    endings = {key.split(".", n)[-1] for key in known for n in range(key.count(".") + 1)}
    wrong = []
    for path in NAMING_KEYS:
        for name in set(KEY.findall(path.read_text(encoding="utf-8"))):
            names = known if name.startswith("LT_DET.") else endings
            start = name[:-1] if name.endswith("*") else None
            if not (name in names or (start and any(key.startswith(start) for key in names))):
                wrong.append(f"{path.relative_to(REPOSITORY)}: {name}")
    assert not wrong


@functools.cache
def _functions() -> set[str]:
    """Return the names of all public functions of the package."""
    return {
        node.name
        for path in (REPOSITORY / "lt_det").rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def named(name: str) -> object:
    """Return the module, or what is in one, that a dotted name stands for; None if nothing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        outer, _, last = name.rpartition(".")
        return getattr(named(outer), last, None) if outer else None


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_modules_and_what_is_in_them_exist(page):
    names = re.findall(r"\blt_det(?:\.[A-Za-z_]\w*)+", page.read_text())
    assert not [name for name in names if named(name) is None]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_functions_are_named_with_a_module_to_import_them_from(page):
    """The module stands somewhere on the page; a name that Detectron2 has is Detectron2's."""
    text = page.read_text()
    functions = _functions()
    modules = [named(name) for name in set(re.findall(r"\blt_det(?:\.\w+)+", text))]
    for name in sorted(set(re.findall(r"`(\w+)(?:\([^`]*\))?`", text)) & functions):
        # From a module that is on the page, or by its own whole name.
        found = any(hasattr(m, name) or getattr(m, "__name__", "") == name for m in modules)
        # A value of MODEL.BACKBONE.NAME, or of LT_DET.SAMPLER.NAME.
        found = found or name in BACKBONE_REGISTRY or name in SAMPLERS
        assert found or hasattr(fast_rcnn, name), f"{page.name}: {name} without its module"


#: Packages of others that a page shows and nothing here needs.
CONVERTERS = {"supervision", "fiftyone"}


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
    for name in ("my_train", "my_val"):  # several pages have them
        for catalog in (DatasetCatalog, MetadataCatalog):
            catalog.pop(name, None)
    if page.name == "own_data.md":
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
                if isinstance(node, ast.Import) and node.names[0].name in CONVERTERS:
                    continue
                exec(compile(ast.Module([node], []), page.name, "exec"), {})
