"""The demo's trainings, with the training itself replaced by a script that writes results."""

from __future__ import annotations

import json
import textwrap

import pytest

from lt_det.demo.build import EmojiScenes
from lt_det.demo.comparison import METHODS, run_methods

TRAINING = textwrap.dedent(
    """
    import json, pathlib, sys
    options = dict(zip(sys.argv[3::2], sys.argv[4::2]))
    folder = pathlib.Path(options["OUTPUT_DIR"])
    method, seed = folder.name, int(options["SEED"])
    if method != "stage1":  # every second stage starts from the same checkpoint
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
    return EmojiScenes(tmp_path, tmp_path / "train.json", tmp_path / "val.json", None)


@pytest.mark.parametrize("parallel", [1, 2])
def test_every_method_runs_once_a_seed(repository, scenes, tmp_path, parallel):
    output = tmp_path / "out"
    for _ in range(2):  # the second call keeps what is there
        runs = run_methods(repository, scenes, output, seeds=[0, 1], parallel=parallel)
    assert list(runs) == list(METHODS.values())
    assert [r.summaries["bbox"]["AP"] for r in runs["(c) BALMS"]] == [5, 6]
    calls = list(output.glob("seed*/*/calls"))
    assert len(calls) == 8
    assert all(path.read_text() == "x" for path in calls)
    sets = json.dumps(str(scenes.train_json))
    assert sets.strip('"') in (output / "seed0" / "balms" / "stdout.txt").read_text()


def test_a_failed_training_names_its_log(repository, scenes, tmp_path):
    with pytest.raises(RuntimeError, match=r"status 3; see .*finetune.*stdout.txt"):
        run_methods(repository, scenes, tmp_path / "o", seeds=[0], options=["FAIL", "finetune"])
