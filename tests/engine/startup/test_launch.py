"""tools/train_net.py as a user calls it: several processes, both stages, resume, evaluation."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from detectron2 import engine

from lt_det.engine.stages import run_stages
from lt_det.engine.startup import launch as launch_module
from lt_det.engine.startup.setup import argument_parser
from tests.engine.tiny import tiny_config
from tests.processes import free_port, run_python

REPOSITORY = Path(__file__).resolve().parents[3]
TRAIN_NET = str(REPOSITORY / "tools" / "train_net.py")


def write_config(folder: Path, name: str, **keys: object) -> str:
    cfg = tiny_config(folder, **keys)
    path = folder / f"{name}.yaml"
    path.write_text(cfg.dump())
    return str(path)


def run(*words: str, launcher: tuple[str, ...] = ()) -> str:
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    if launcher:
        result = subprocess.run(
            [sys.executable, *launcher, TRAIN_NET, *words],
            capture_output=True,
            text=True,
            env=environment,
            timeout=300,
            check=False,
        )
    else:
        result = run_python(Path(TRAIN_NET), *words)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-9000:]
    return result.stdout + result.stderr


def torchrun() -> tuple[str, ...]:
    return (
        *("-m", "torch.distributed.run", "--nproc_per_node", "2", "--nnodes", "1"),
        *("--master_addr", "127.0.0.1", "--master_port", str(free_port())),
    )


STAGE_1 = {"LT_DET__LOSS": "sigmoid_ce", "SOLVER__MAX_ITER": 2}
STAGE_2 = {
    "LT_DET__LOSS": "balanced_sigmoid",
    "LT_DET__DECOUPLED": True,
    "LT_DET__META__ENABLED": True,
    "LT_DET__META__LR": 0.1,
    "LT_DET__EVAL__PICTURES": True,
    "SOLVER__MAX_ITER": 3,
}


def final(folder: Path) -> dict:
    return torch.load(folder / "model_final.pth", weights_only=True)


def test_two_processes_run_both_stages_under_torchrun(tmp_path):
    first = write_config(tmp_path, "first", **STAGE_1)
    second = write_config(tmp_path, "second", **STAGE_2)
    root = tmp_path / "runs"
    run("--stages", first, second, "OUTPUT_DIR", str(root), launcher=torchrun())
    before, after = final(root / "first"), final(root / "second")
    changed = {k for k, v in before["model"].items() if not torch.equal(v, after["model"][k])}
    assert changed == {f"roi_heads.box_predictor.cls_score.{p}" for p in ("weight", "bias")}
    psi = after["trainer"]["meta"]["psi"]
    assert torch.isfinite(psi).all()
    assert psi.abs().max() > 0.05
    record = json.loads((root / "second" / "results.json").read_text())
    assert record["processes"] == 2
    assert set(record["results"]["bbox"]) == {
        *("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
    }

    # Each stage has a log of its own, in which a line stands once.
    for stage, other in (("first", "second"), ("second", "first")):
        text = (root / stage / "log.txt").read_text()
        assert text.count(f"Saving checkpoint to {root / stage}/model_final.pth") == 1
        assert (
            f"{root / other}/model_final.pth"
            not in text.split("Starting training")[1].split("Results:")[0]
        )

    # Resuming skips the first stage and finds nothing left to do in the second.
    log = run("--resume", "--stages", first, second, "OUTPUT_DIR", str(root))
    assert "Stages run: ['second']; done before: ['first']" in log
    assert f"Nothing to do: the training in OUTPUT_DIR {root / 'second'} has had all 3" in log
    assert "Starting training" not in log
    assert torch.equal(final(root / "second")["trainer"]["meta"]["psi"], psi)

    # Evaluation alone gives the same numbers.
    weights = str(root / "second" / "model_final.pth")
    again = str(tmp_path / "again")
    run("--config-file", second, "--eval-only", "MODEL.WEIGHTS", weights, "OUTPUT_DIR", again)
    assert (
        json.loads((tmp_path / "again" / "results.json").read_text())["results"]
        == (record["results"])
    )


@pytest.mark.slow
def test_two_processes_start_by_detectron2_s_own_flag(tmp_path):
    if "create_local_process_group" not in dir(engine.launch.__globals__["comm"]):
        pytest.skip("this Detectron2's launcher asks for GPUs")
    config = write_config(tmp_path, "first", **STAGE_1)
    url = f"tcp://127.0.0.1:{free_port()}"
    run("--config-file", config, "--num-gpus", "2", "--dist-url", url)
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert record["processes"] == 2


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("by_stages", [False, True])
def test_processes_talk_by_nccl_only_if_the_model_is_on_gpus(
    tmp_path, monkeypatch, device, by_stages
):
    for name in launch_module._TORCHRUN_VARIABLES:
        monkeypatch.setenv(name, "1")
    joined = []
    join = lambda **how: joined.append(how["on_gpu"])  # noqa: E731
    monkeypatch.setattr(launch_module, "_join_torchrun", join)
    monkeypatch.setattr(launch_module, "_run_watched", lambda main, *words: main(words[-1]))
    monkeypatch.setattr(launch_module.dist, "get_backend", lambda: "gloo")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config = write_config(tmp_path, "first")
    words = ["--stages", config] if by_stages else ["--config-file", config]
    args = argument_parser().parse_args([*words, "MODEL.DEVICE", device])
    assert launch_module.launch(lambda _: "done", args) == "done"
    assert joined == [device == "cuda"]


def stage_options(*words: str, **values: object) -> list[list[str]]:
    """Return the KEY VALUE pairs that each of the stages would be run with."""
    seen: list[list[str]] = []
    args = argparse.Namespace(stages=list(words), opts=[], resume=False, **values)
    run_stages(args, lambda stage: seen.append([stage.config_file, *stage.opts]))
    return seen


def test_stages_write_where_their_configs_say(tmp_path):
    first = write_config(tmp_path, "first", OUTPUT_DIR=str(tmp_path / "a"))
    second = write_config(tmp_path, "second", OUTPUT_DIR=str(tmp_path / "b"))
    weights = str(tmp_path / "a" / "model_final.pth")
    assert stage_options(first, second, "SEED", "1") == [
        [first, "SEED", "1", "OUTPUT_DIR", str(tmp_path / "a")],
        [second, "SEED", "1", "OUTPUT_DIR", str(tmp_path / "b"), "MODEL.WEIGHTS", weights],
    ]
    root = str(tmp_path / "root")
    one, two = stage_options(first, second, "OUTPUT_DIR", root)
    assert one[-2:] == ["OUTPUT_DIR", f"{root}/first"]
    assert two[-2:] == ["MODEL.WEIGHTS", f"{root}/first/model_final.pth"]


def test_stages_need_folders_of_their_own_and_no_other_config(tmp_path):
    path = write_config(tmp_path, "same")
    other = write_config(tmp_path, "other")
    for words in ((path, path, "OUTPUT_DIR", "root"), (path, other)):
        with pytest.raises(ValueError, match=r"several stages to the same folder.*OUTPUT_DIR"):
            stage_options(*words)
    with pytest.raises(ValueError, match="--config-file 'x.yaml' goes without --stages"):
        stage_options(path, other, config_file="x.yaml")


def test_processes_of_detectron2_s_launcher_wait_as_long_as_the_key_says(tmp_path, monkeypatch):
    """And a minute more, for the watch to name the one that others wait for."""
    config = write_config(tmp_path, "config", **STAGE_1, LT_DET__RANK_TIMEOUT_MINUTES=7.0)
    seen = {}
    monkeypatch.setattr(launch_module.engine, "launch", lambda *_, **words: seen.update(words))
    args = argument_parser().parse_args(["--num-gpus", "2", "--config-file", str(config)])
    launch_module.launch(print, args)
    assert seen["timeout"] == timedelta(minutes=8)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--num-gpus", "-1"], "--num-gpus must be at least 0, got -1"),
        (["--num-machines", "0"], "--num-machines must be at least 1, got 0"),
        (["--num-machines", "-2"], "--num-machines must be at least 1, got -2"),
        (["--machine-rank", "5"], "--machine-rank must be 0 .*--num-machines 1, got 5"),
        (
            ["--num-machines", "2", "--machine-rank", "2"],
            "--machine-rank must be 0 to 1 with --num-machines 2, got 2",
        ),
        (["--machine-rank", "-1"], "--machine-rank must be 0 .*got -1"),
        (["--num-gpus", "0", "--num-machines", "2"], "--num-gpus 0 .*--num-machines 2"),
        *(
            (["--num-gpus", "2", "--dist-url", url], f"--dist-url '{url}' .*tcp://")
            for url in (
                *("nonsense", "", "tcp://", "tcp://host", "tcp://host:x", "tcp://host:99999"),
                *("http://host:1", "tcp://:123", "tcp://host:0", "host:29500"),
            )
        ),
        (["--num-machines", "2", "--dist-url", "auto"], "--dist-url 'auto' .*one machine"),
    ],
)
def test_flags_of_the_launcher_that_cannot_be_are_said_before_any_process_starts(
    tmp_path, monkeypatch, words, reason
):
    monkeypatch.setattr(launch_module.engine, "launch", lambda *_, **__: pytest.fail("started"))
    monkeypatch.setattr(launch_module, "load_config", lambda *_: pytest.fail("read a config"))
    with pytest.raises(ValueError, match=reason):
        launch_module.launch(print, argument_parser().parse_args(words))


def test_more_processes_than_gpus_are_said(monkeypatch):
    started = []
    monkeypatch.setattr(launch_module.engine, "launch", lambda *_, **words: started.append(words))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    launch_module.launch(print, argument_parser().parse_args(["--num-gpus", "2"]))
    with pytest.raises(ValueError, match="--num-gpus 3, but PyTorch finds 2 GPUs"):
        launch_module.launch(print, argument_parser().parse_args(["--num-gpus", "3"]))
    assert len(started) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["--num-gpus", "0"],
        ["--dist-url", "nonsense"],  # of one process: not asked for
        ["--num-gpus", "2", "--dist-url", "auto"],
        ["--num-gpus", "2", "--dist-url", "file:///tmp/x"],
        ["--num-machines", "2", "--machine-rank", "1", "--dist-url", "tcp://[::1]:29500"],
    ],
)
def test_flags_of_the_launcher_that_can_be_are_passed_on(monkeypatch, words):
    started = []
    monkeypatch.setattr(launch_module.engine, "launch", lambda *_, **words: started.append(words))
    args = argument_parser().parse_args(words)
    launch_module.launch(print, args)
    assert [one["dist_url"] for one in started] == [args.dist_url]
