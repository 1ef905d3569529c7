"""The command line: what it costs, what it says, and what it keeps quiet about."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import pytest

from lt_det.cli import train as train_module
from lt_det.cli.commands import COMMANDS, main
from lt_det.cli.user_errors import UserError, user_errors, wants_traceback
from tests.engine.startup.test_launch import TRAIN_NET, write_config
from tests.engine.tiny import write_tiny_lvis

HELP = """
import sys
from lt_det.cli.commands import main
try:
    main(["--help"])
except SystemExit as exit_:
    assert exit_.code == 0
print([m for m in ("torch", "detectron2", "numpy") if m in sys.modules])
"""


@pytest.fixture(autouse=True)
def _no_debug(monkeypatch):
    monkeypatch.setenv("LT_DET_DEBUG", "0")


def test_help_lists_the_commands_and_imports_none():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in COMMANDS:
        assert f"  {command.name} " in done.stdout
        assert command.summary in done.stdout


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "lt_det", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("lt_det ")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_each_command_has_options_and_help(command, capsys):
    module = importlib.import_module(command.module)
    assert callable(module.main)
    with pytest.raises(SystemExit) as exit_:
        main([command.name, "--help"])
    assert exit_.value.code == 0
    assert f"lt-det {command.name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["sweep", "posthoc-sweep"])
def test_examples_of_several_lines_can_be_copied(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    text = capsys.readouterr().out
    assert " \\\n        -" in text
    assert f"\nlt-det {name} --config-file" in text


def test_unknown_commands_are_answered_with_the_nearest(capsys):
    with pytest.raises(SystemExit):
        main(["trian"])
    assert "no command 'trian'; did you mean train?" in capsys.readouterr().err


def one_line(capsys, *words: str) -> str:
    assert main(list(words)) == 1
    text = capsys.readouterr().err
    assert "Traceback" not in text
    last = text.rstrip("\n").splitlines()[-1]
    assert last.startswith(f"lt-det {words[0]}: error: ")
    assert last.endswith("(--debug shows the traceback)")
    return last


def test_missing_files_are_one_line(tmp_path, capsys):
    assert "'no.yaml' does not exist" in one_line(capsys, "train", "--config-file", "no.yaml")
    stages = ("train", "--stages", "no.yaml", "nor.yaml")
    assert "'no.yaml' does not exist" in one_line(capsys, *stages)
    evaluate = ("evaluate", "--config-file", "no.yaml")
    assert "'no.yaml' does not exist" in one_line(capsys, *evaluate)
    assert "ground_truth: no/val.json does not exist" in one_line(
        capsys, "evaluate", "no/val.json", "d.json"
    )
    assert "no.json does not exist" in one_line(capsys, "class-stats", "--json", "no.json")
    words = ("sweep", "--config-file", "no.yaml", "--grid", "SEED", "1")
    assert "'no.yaml' does not exist" in one_line(capsys, *words)
    assert "LT_DET.LOSS" in one_line(capsys, "train", "LT_DET.LOSSS", "focal")

    config = write_config(tmp_path, "config", MODEL__WEIGHTS="no/weights.pth")
    assert "'no/weights.pth'" in one_line(capsys, "train", "--config-file", config)
    (tmp_path / "tiny.json").rename(tmp_path / "moved.json")
    message = one_line(capsys, "train", "--config-file", config)
    assert f"{tmp_path}/tiny.json does not exist" in message


def test_debug_shows_the_traceback(monkeypatch):
    with pytest.raises(FileNotFoundError):
        main(["train", "--debug", "--config-file", "no.yaml"])
    monkeypatch.setenv("LT_DET_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        main(["train", "--config-file", "no.yaml"])


def test_errors_of_the_program_keep_their_traceback(tmp_path, monkeypatch):
    for error in (RuntimeError("a sum is wrong"), KeyError("place"), TypeError("no int")):
        with pytest.raises(type(error)), user_errors():
            raise error
    config = write_config(tmp_path, "config")

    def broken(self):
        raise ValueError("in the middle of a training")

    monkeypatch.setattr("lt_det.engine.trainer.LongTailTrainer.run_step", broken)
    with pytest.raises(ValueError, match="in the middle"):
        main(["train", "--config-file", config])


def test_what_a_started_process_died_of_is_one_line():
    import torch.multiprocessing as mp

    with pytest.raises(UserError, match=r"^'no.yaml' is not there; look for it$"), user_errors():
        mp.spawn(_die, nprocs=1)


def _die(_):
    with user_errors():
        raise FileNotFoundError("'no.yaml' is not there;\nlook for it")


def test_train_net_is_the_command(tmp_path):
    """And fails with one line and a status, as a script in a shell needs it."""
    done = subprocess.run(
        [sys.executable, TRAIN_NET, "--config-file", "no.yaml"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(TRAIN_NET))},
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("lt-det train: error: --config-file 'no.yaml'")
    assert "Traceback" not in done.stderr


def test_evaluate_takes_the_flags_of_training(monkeypatch):
    from lt_det.cli import evaluate

    seen = []
    monkeypatch.setattr("lt_det.engine.startup.launch.launch", lambda _, args: seen.append(args))
    evaluate.main(["--config-file", "x.yaml", "--num-gpus", "2", "MODEL.WEIGHTS", "w.pth"])
    (args,) = seen
    assert (args.eval_only, args.num_gpus, args.opts) == (True, 2, ["MODEL.WEIGHTS", "w.pth"])
    assert train_module.parse_arguments(["--config-file", "x.yaml"]).eval_only is False


def test_evaluate_prints_and_writes_the_table_of_json_files(tmp_path, capsys):
    json_file, _ = write_tiny_lvis(tmp_path)
    with open(json_file) as file:
        annotations = json.load(file)["annotations"]
    keys = ("image_id", "category_id", "bbox")
    detections = [{k: a[k] for k in keys} | {"score": 0.9} for a in annotations]
    (tmp_path / "d.json").write_text(json.dumps(detections))
    words = ["evaluate", json_file, str(tmp_path / "d.json"), "--train-json", json_file]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "APr" in out
    assert "100.000" in out
    assert "rare 4 of 6" in out
    assert (tmp_path / "out" / "per_category_bbox.csv").is_file()


def test_debug_is_of_one_call(monkeypatch):
    monkeypatch.delenv("LT_DET_DEBUG", raising=False)
    seen = []
    monkeypatch.setattr("lt_det.cli.report.main", lambda _: seen.append(os.environ["LT_DET_DEBUG"]))
    assert main(["report", "--debug", "run"]) == 0
    assert seen == ["1"]  # the processes that it starts see it as well
    assert not wants_traceback()
