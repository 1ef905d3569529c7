"""A sweep makes the runs it says, keeps what is done, and tabulates what they left."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from lt_det.cli import sweep as tool
from lt_det.engine.startup.setup import read_config
from lt_det.engine.trainer import LongTailTrainer
from lt_det.experiments.kept_runs import check_same_run, differing_keys, is_finished
from lt_det.experiments.sweep import run_sweep, run_unless_done, sweep_points
from lt_det.report.sweep_table import read_results, sweep_table
from tests.engine.tiny import tiny_config

#: Stands in for tools/train_net.py: the result is the learning rate plus the seed.
TRAINING = """
import json, os, sys
words = sys.argv[sys.argv.index("--config-file") + 2 :]
options = dict(zip(words[::2], words[1::2]))
assert "--resume" in sys.argv
with open(os.path.join(os.path.dirname(options["OUTPUT_DIR"]), "order.txt"), "a") as file:
    file.write(os.path.basename(options["OUTPUT_DIR"]) + "\\n")
value = float(options["SOLVER.BASE_LR"]) + int(options["SEED"])
if value > 90:
    sys.exit("diverged")
results = {"bbox": {"AP": value, "APr": None, "AP50": 1.0}}
with open(os.path.join(options["OUTPUT_DIR"], "results.json"), "w") as file:
    json.dump({"results": results}, file)
"""


@pytest.fixture
def train_net(tmp_path):
    path = tmp_path / "train_net.py"
    path.write_text(TRAINING)
    return [sys.executable, str(path)]


def order(output):
    return (output / "order.txt").read_text().split()


def test_points_are_all_combinations():
    points = sweep_points({"A.TAU": ["1", "2"], "B.LOSS": ["x/y"]}, seeds=[0, 7])
    assert [p.name for p in points] == [
        "tau=1,loss=x_y,seed=0",
        "tau=1,loss=x_y,seed=7",
        "tau=2,loss=x_y,seed=0",
        "tau=2,loss=x_y,seed=7",
    ]
    assert points[2].values == {"A.TAU": "2", "B.LOSS": "x/y"}
    with pytest.raises(ValueError, match="same name"):
        sweep_points({"A.PATH": ["x/y", "x_y"]}, seeds=[0])


@pytest.mark.parametrize("parallel", [1, 2])
def test_sweep_trains_once_and_tabulates(tmp_path, train_net, parallel):
    output = tmp_path / "sweep"
    output.mkdir()
    points = sweep_points({"SOLVER.BASE_LR": ["10", "20"]}, seeds=[0, 2])
    for _ in range(2):
        run_sweep(train_net, "c.yaml", points, output, parallel=parallel)
    assert sorted(order(output)) == sorted(p.name for p in points)
    assert order(output)[0] == points[0].name
    rows = {
        (lr,): [output / p.name for p in points if p.values["SOLVER.BASE_LR"] == lr]
        for lr in ("10", "20")
    }
    lines = sweep_table(rows, keys=["SOLVER.BASE_LR"]).splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    # AP50 is not among the usual ones.
    assert cells[0] == ["BASE_LR", "runs", "bbox/AP", "bbox/APr"]
    assert cells[2] == ["10", "2", "11.00 ± 1.41", "–"]
    assert cells[3] == ["20", "2", "21.00 ± 1.41", "–"]
    assert "bbox/AP50" in sweep_table(rows, keys=["SOLVER.BASE_LR"], metrics=["bbox/AP50"])
    with pytest.raises(KeyError, match="segm/AP"):
        sweep_table(rows, keys=["SOLVER.BASE_LR"], metrics=["segm/AP"])


def test_failed_run_names_its_log_and_can_be_repeated(tmp_path, train_net):
    points = sweep_points({"SOLVER.BASE_LR": ["1", "95"]}, seeds=[0])
    output = tmp_path / "sweep"
    output.mkdir()
    with pytest.raises(RuntimeError, match=r"status 1; see .*base_lr=95,seed=0.stdout.txt"):
        run_sweep(train_net, "c.yaml", points, output)
    assert "diverged" in (output / points[1].name / "stdout.txt").read_text()
    assert read_results(output / points[0].name)["bbox/AP"] == 1
    with pytest.raises(FileNotFoundError, match="not ended"):
        read_results(output / points[1].name)


def test_finished_folder_is_left_alone(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({"results": {}}))
    run_unless_done(["false"], tmp_path)
    assert not (tmp_path / "stdout.txt").exists()


BASE = ["train_net.py", "--resume", "--config-file", ""]


def finished(folder, *options):
    """As a training with these options leaves its folder."""
    folder.mkdir(parents=True)
    cfg = read_config("", [*options, "OUTPUT_DIR", str(folder)])
    (folder / "config.yaml").write_text(cfg.dump())
    record = {"results": {}, "iterations": cfg.SOLVER.MAX_ITER, "processes": 1}
    (folder / "results.json").write_text(json.dumps(record))


def asked(folder, *options):
    check_same_run([*BASE, *options, "OUTPUT_DIR", str(folder)], folder)


def test_runs_of_other_settings_are_refused(tmp_path):
    folder = tmp_path / "seed0" / "crt"
    options = ("SEED", "0", "MODEL.WEIGHTS", str(tmp_path / "seed0" / "ce" / "model_final.pth"))
    finished(folder, *options)
    asked(folder, *options)
    asked(folder, *options, "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0")
    asked(folder, *options, "VIS_PERIOD", "7", "TEST.EVAL_PERIOD", "7", "CUDNN_BENCHMARK", "True")
    with pytest.raises(ValueError, match=r"crt holds a finished run .* SOLVER.BASE_LR: 0.001, now"):
        asked(folder, *options, "SOLVER.BASE_LR", "0.5")
    with pytest.raises(ValueError, match="2 keys differ: .*ce.model_final.pth.*; SEED: 0, now 3"):
        asked(folder, "SEED", "3", "MODEL.WEIGHTS", "elsewhere.pth")
    # The whole output in another place.
    moved = tmp_path / "moved" / "crt"
    (tmp_path / "seed0").rename(tmp_path / "moved")
    weights = str(tmp_path / "moved" / "ce" / "model_final.pth")
    asked(moved, "SEED", "0", "MODEL.WEIGHTS", weights)


def test_a_checkpoint_of_other_settings_is_not_resumed(tmp_path):
    folder = tmp_path / "run"
    finished(folder)
    (folder / "results.json").unlink()
    asked(folder, "SEED", "7")  # nothing to resume: it is trained anew
    (folder / "last_checkpoint").write_text("model_0000001.pth")
    with pytest.raises(ValueError, match="an unfinished run .* SEED: -1, now 7"):
        asked(folder, "SEED", "7")


class KilledError(Exception):
    pass


class KilledTrainer(LongTailTrainer):
    """Dies before its last two iterations."""

    def run_step(self):
        if self.iter == self.max_iter - 2:
            raise KilledError
        super().run_step()


def train(cfg, trainer=LongTailTrainer):
    (Path(cfg.OUTPUT_DIR) / "config.yaml").write_text(cfg.dump())  # as tools/train_net.py does
    built = trainer(cfg)
    built.resume_or_load(resume=True)
    built.train()


def test_a_run_that_was_killed_between_evaluations_is_not_finished(tmp_path):
    cfg = tiny_config(tmp_path, TEST__EVAL_PERIOD=1, SOLVER__CHECKPOINT_PERIOD=1)
    folder = Path(cfg.OUTPUT_DIR)
    with pytest.raises(KilledError):
        train(cfg, KilledTrainer)
    with pytest.raises(FileNotFoundError, match="its run has not ended"):
        read_results(folder)
    cfg.MODEL.WEIGHTS = str(folder / "model_0000001.pth")
    LongTailTrainer.evaluate_checkpoint(cfg)  # a look at it leaves results, but no final ones
    assert read_results(folder)
    with pytest.raises(RuntimeError, match="status 7"):
        run_unless_done([sys.executable, "-c", "raise SystemExit(7)"], folder)
    train(cfg)
    run_unless_done(["false"], folder)
    cfg.SOLVER.MAX_ITER = 6
    with pytest.raises(KilledError):  # a longer training, its results are not there yet
        train(cfg, KilledTrainer)
    assert not is_finished(folder)


@pytest.mark.parametrize(("iterations", "processes"), [(10, 1), (5, 2)])
def test_finished_is_counted_for_the_processes_that_trained(tmp_path, iterations, processes):
    finished(tmp_path / "x", "SOLVER.MAX_ITER", "10", "SOLVER.REFERENCE_WORLD_SIZE", "1")
    record = {"results": {}, "iterations": iterations, "processes": processes}
    (tmp_path / "x" / "results.json").write_text(json.dumps(record))
    assert is_finished(tmp_path / "x")
    (tmp_path / "x" / "results.json").write_text(json.dumps({**record, "iterations": 4}))
    assert not is_finished(tmp_path / "x")
    (tmp_path / "x" / "results.json").write_text("{")  # of a damaged disk
    assert not is_finished(tmp_path / "x")


def test_a_sweep_checks_all_before_the_first_run(tmp_path, train_net):
    points = sweep_points({"SOLVER.BASE_LR": ["10.0", "20.0"]}, seeds=[0])
    finished(tmp_path / "sweep" / points[1].name, "SOLVER.BASE_LR", "20.0", "SOLVER.MAX_ITER", "5")
    with pytest.raises(ValueError, match=r"base_lr=20.*MAX_ITER: 5, now 40000"):
        run_sweep(train_net, "", points, tmp_path / "sweep")
    assert not (tmp_path / "sweep" / "order.txt").exists()


def test_keys_that_came_or_went_count_by_their_defaults():
    now = yaml.safe_load(read_config("").dump())
    was = yaml.safe_load(read_config("").dump())
    del was["LT_DET"]["CLASSIFICATION"]["HELD_OUT"]
    was["LT_DET"]["GONE"] = 3
    assert differing_keys(was, now) == []
    now["LT_DET"]["CLASSIFICATION"]["HELD_OUT"] = 0.1
    assert differing_keys(was, now) == [("LT_DET.CLASSIFICATION.HELD_OUT", 0.0, 0.1)]


def test_a_failing_run_leaves_the_table_of_the_finished_ones(tmp_path, train_net, monkeypatch):
    monkeypatch.setattr(tool, "TRAIN", train_net)
    config = tmp_path / "c.yaml"
    config.write_text("VERSION: 2\n")
    output = tmp_path / "out"
    words = ["--config-file", str(config), "--output", str(output)]
    with pytest.raises(RuntimeError, match="stdout.txt"):
        tool.main([*words, "--grid", "SOLVER.BASE_LR", "10.5", "95.0"])
    table = (output / "summary.md").read_text()
    assert "10.5" in table
    assert "95" not in table
