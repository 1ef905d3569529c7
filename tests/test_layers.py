"""The architecture: who may import whom, and what runs without Detectron2."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "lt_det"
MODULES = sorted(ROOT.rglob("*.py"))

#: Every layer may use itself, the version, detectron2_required and storage.
MAY_IMPORT = {
    "data": set(),
    "losses": set(),
    "meta": set(),
    "evaluation": {"data"},
    # Effective numbers of classes, for a sampler.
    "tasks": {"data", "losses"},
    "modeling": {"data", "losses", "tasks"},
    "config": {"data", "losses", "meta", "modeling", "evaluation"},
    # Losses, for their curves.
    "report": {"data", "evaluation", "losses"},
    # The report, for the picture at the end of a training.
    "engine": {"data", "losses", "meta", "tasks", "modeling", "evaluation", "config", "report"},
    # The record of a run belongs to the loop, the table to the report.
    "experiments": {"data", "engine", "evaluation", "tasks", "modeling", "config", "report"},
    # Second stages and evaluations of one detector, many times over.
    "balancing": {
        *("data", "losses", "engine", "evaluation", "experiments", "tasks", "modeling", "config"),
        "report",
    },
    # Recipes are made of what the inspection of data found.
    "projects": {"data"},
    # The public functions hand on to all of them.
    "api": {"data", "losses", "modeling", "evaluation", "config", "engine", "balancing"},
    "__init__": {"api", "data", "engine"},
    "cli": {
        *("api", "balancing", "data", "evaluation", "engine", "experiments", "projects", "report"),
    },
    "__main__": {"cli"},
}
FREE = {
    *(
        "version",
        "detectron2_required",
        "config_errors",
        "config_files",
        "shown_text",
        "storage",
        "__init__",
    )
}

#: The only files of the lower layers that may import Detectron2.
NEEDS_DETECTRON2 = {
    "data/annotations/class_matching.py",
    "data/annotations/datasets.py",
    "data/images/datasets.py",
    "data/records/dataset_dicts.py",
    "evaluation/lvis/evaluator.py",
    "evaluation/coco_evaluator.py",
    "evaluation/classification/evaluator.py",
    "evaluation/main_rank.py",
}
#: Who may register data sets: the start of a run, and the public function for it.
REGISTER = {
    "engine/startup/datasets.py",
    "engine/startup/setup.py",
    "engine/trainer.py",
    "engine/logit_moments.py",
    "api.py",
}
DETECTRON2_LAYERS = {"tasks", "modeling", "engine", "experiments", "balancing", "config", "api"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_follow_the_data_flow(path):
    layer = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for name in imported_names(path):
        if name.startswith("lt_det."):
            other = name.split(".")[1]
            allowed = MAY_IMPORT.get(layer, set()) | FREE | {layer}
            assert other in allowed, f"{relative(path)} imports {name}"
        if name.split(".")[0] in ("detectron2", "fvcore"):
            assert (
                layer in DETECTRON2_LAYERS
                or relative(path) in NEEDS_DETECTRON2
                or layer == "detectron2_required"
            ), f"{relative(path)} imports {name}"


#: The layers above, which work on a config as a whole.
READ_CONFIG = {"api", "config", "engine", "experiments", "balancing", "cli"}
#: Functions that make something from a config; _init_box_head and its like are from_config of
#: Detectron2's ROI heads.
BUILDER = re.compile(r"(\w+_)?from_config|_?build_\w+|_init_\w+_head")


#: A config by its name, or by a node that it has under any name.
CONFIG_NAMES = {"cfg", "LT_DET", "MODEL", "SOLVER", "DATASETS", "DATALOADER", "OUTPUT_DIR"}


def functions_reading_config(tree: ast.AST, inside: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the functions that mention a config, dotted, "" for the module."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield from functions_reading_config(node, (*inside, node.name))
        else:
            names = {getattr(node, field, "") for field in ("id", "arg", "attr")}
            if CONFIG_NAMES & names:
                yield ".".join(inside)
            yield from functions_reading_config(node, inside)


@pytest.mark.parametrize(
    "source",
    [
        "def f(cfg): return cfg.LT_DET.LOSS",
        "def f(config): return config.MODEL.DEVICE",
        "def f(self): return self.cfg.SEED",
        "async def f(cfg): return cfg",
    ],
)
def test_a_config_is_found_under_any_name(source):
    assert "f" in set(functions_reading_config(ast.parse(source)))
    assert not set(functions_reading_config(ast.parse("def f(model): return model.device")))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_only_builders_read_the_config(path):
    if path.relative_to(ROOT).parts[0].removesuffix(".py") in READ_CONFIG:
        return
    for name in functions_reading_config(ast.parse(path.read_text())):
        assert any(BUILDER.fullmatch(part) for part in name.split(".")), f"{relative(path)}: {name}"


#: Reads config.yaml of finished runs, a file like any other, for their report.
READS_RECORDED = "report/run_page/recorded_config.py"


@pytest.mark.parametrize("layer", ["data", "losses", "meta", "evaluation", "report"])
def test_lower_layers_name_no_config_key(layer):
    for path in sorted((ROOT / layer).rglob("*.py")):
        if relative(path) == READS_RECORDED:
            continue
        assert "LT_DET." not in path.read_text(), relative(path)


def test_building_registers_no_data_set():
    for path in MODULES:
        text = path.read_text()
        if relative(path) in REGISTER or path.relative_to(ROOT).parts[0] == "data":
            continue
        assert "register_datasets" not in text, relative(path)
        assert "DatasetCatalog.register" not in text, relative(path)


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_files_are_small_and_named_for_what_they_hold(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    assert path.stem not in {"utils", "util", "misc", "helpers", "common", "core"}
    if path.relative_to(ROOT).parts[0] == "cli":
        return  # what a user asked for goes to the terminal
    calls = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]
    assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]


BLOCK_DETECTRON2 = """
import importlib, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("detectron2", "fvcore", "iopath"):
            raise ImportError(f"No module named {name!r}")
sys.meta_path.insert(0, Blocker())
"""
IMPORT = """
for name in sys.argv[1:]:
    for loaded in [m for m in sys.modules if m.partition(".")[0] == "lt_det"]:
        del sys.modules[loaded]  # each by itself, whatever was imported before it
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error)
"""


def errors_without_detectron2(*modules: str) -> list[str]:
    """Return a line for each that cannot be imported then: its name and the error."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCK_DETECTRON2 + IMPORT, *modules],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_lower_layers_run_without_detectron2():
    modules = [
        "lt_det",
        "lt_det.data.stats.stats_cache",
        "lt_det.data.sampling.samplers",
        "lt_det.api",
        "lt_det.cli.commands",
        "lt_det.cli.class_stats",
        "lt_det.cli.check_data",
        "lt_det.cli.evaluate",
        "lt_det.losses.criterion",
        "lt_det.meta.meta_reweighter",
        "lt_det.evaluation.lvis.average_precision",
        "lt_det.report.runs",
    ]
    assert errors_without_detectron2(*modules) == []


def test_upper_layers_say_how_to_install_it():
    modules = [
        "lt_det.config",
        "lt_det.modeling",
        "lt_det.engine.trainer",
        "lt_det.data.annotations.datasets",
        "lt_det.evaluation.lvis.evaluator",
    ]
    errors = errors_without_detectron2(*modules)
    assert [error.split()[0] for error in errors] == modules
    for error in errors:
        assert "pip install" in error
        assert "git+https://github.com/facebookresearch/detectron2.git" in error
