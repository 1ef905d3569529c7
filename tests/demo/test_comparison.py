"""The demo's trainings, with the training itself replaced by a script that writes results."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest
from detectron2.config import get_cfg

from demo.build import EmojiScenes
from demo.comparison import COMPARISONS, run_methods
from lt_det.config import add_lt_det_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "demo"

TRAINING = textwrap.dedent(
    """
    import json, pathlib, sys
    options = dict(zip(sys.argv[3::2], sys.argv[4::2]))
    folder = pathlib.Path(options["OUTPUT_DIR"])
    method, seed = folder.name, int(options["SEED"])
    if method.startswith("retinanet"):  # each by itself
        assert "MODEL.WEIGHTS" not in options
    elif method != "stage1":  # every second stage starts from the same checkpoint
        assert options["MODEL.WEIGHTS"] == str(folder.parent / "stage1" / "model_final.pth")
        assert pathlib.Path(options["MODEL.WEIGHTS"]).is_file()
    if method == options.get("FAIL"):
        sys.exit(3)
    (folder / "model_final.pth").touch()
    (folder / "inference").mkdir()
    content = {"summary": {"AP": len(method) + seed}, "categories": []}
    (folder / "inference" / "per_category_bbox.json").write_text(json.dumps(content))
    (folder / "results.json").write_text("{}")
    with open(folder / "calls", "a") as file:
        file.write("x")
    """
)


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "train_net.py").write_text(TRAINING)
    return tmp_path


@pytest.fixture
def scenes(tmp_path):
    return EmojiScenes(tmp_path, tmp_path / "train.json", tmp_path / "val.json")


@pytest.mark.parametrize("parallel", [1, 2])
@pytest.mark.parametrize("name", COMPARISONS)
def test_every_method_runs_once_a_seed(repository, scenes, tmp_path, name, parallel):
    comparison, output = COMPARISONS[name], tmp_path / "out"
    for _ in range(2):  # the second call keeps what is there
        runs = run_methods(repository, scenes, output, comparison, seeds=[0, 1], parallel=parallel)
    assert list(runs) == list(comparison.methods.values())
    for method, label in comparison.methods.items():
        aps = [run.summaries["bbox"]["AP"] for run in runs[label]]
        assert aps == [len(method), len(method) + 1]
    calls = list(output.glob("seed*/*/calls"))
    assert len(calls) == 2 * len(comparison.methods)
    assert all(path.read_text() == "x" for path in calls)
    sets = json.dumps(str(scenes.train_json))
    log = output / "seed0" / comparison.baseline / "stdout.txt"
    assert sets.strip('"') in log.read_text()


@pytest.mark.parametrize("name", COMPARISONS)
def test_the_methods_of_a_comparison_differ_in_loss_and_meta_step_only(name):
    """Same model, data and schedule, but for a common start."""
    comparison = COMPARISONS[name]
    configs = {}
    for method in comparison.methods:
        cfg = get_cfg()
        add_lt_det_config(cfg)
        cfg.merge_from_file(str(CONFIGS / f"{method}.yaml"))
        for key in ("LOSS", "LOSS_PARAMS", "META"):
            cfg.LT_DET.pop(key)
        cfg.pop("OUTPUT_DIR")
        configs[method] = cfg
    configs.pop(comparison.start, None)
    assert all(cfg == configs[comparison.baseline] for cfg in configs.values())


def test_a_failed_training_names_its_log(repository, scenes, tmp_path):
    with pytest.raises(RuntimeError, match=r"status 3; see .*finetune.*stdout.txt"):
        run_methods(
            repository,
            scenes,
            tmp_path / "o",
            COMPARISONS["balms"],
            seeds=[0],
            options=["FAIL", "finetune"],
        )
