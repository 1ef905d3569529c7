"""What a run says on the terminal, in the log and at its end."""

from __future__ import annotations

import json
import logging
import os

import pytest

import lt_det
from lt_det.engine.checkpoint import LongTailCheckpointer
from lt_det.engine.run import run_config
from lt_det.engine.startup.setup import argument_parser
from tests.engine.startup.test_launch import STAGE_1, write_config

COLUMNS = ["stage", "task", "AP", "APr", "APc", "APf"]


def run(*words: str):
    return run_config(argument_parser().parse_args(list(words)))


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Two stages by the public function: the folder, and what the terminal shows of them."""
    folder = tmp_path_factory.mktemp("stages")
    first = write_config(folder, "first", **STAGE_1)
    second = write_config(
        folder,
        "second",
        LT_DET__LOSS="balanced_sigmoid",
        LT_DET__DECOUPLED=True,
        SOLVER__MAX_ITER=1,
    )
    lt_det.run_stages([first, second], ["OUTPUT_DIR", str(folder / "runs")])
    return folder


def test_stages_end_with_a_table_and_the_paths_of_their_files(stages):
    log = (stages / "runs" / "second" / "log.txt").read_text()
    report = log[log.rindex("Results:") :].splitlines()
    assert [c.strip() for c in report[1].split("|")[1:-1]] == COLUMNS
    found = {}
    for line in report[3:7]:
        name, task, *values = (cell.strip() for cell in line.strip("|").split("|"))
        found[name, task] = values
    assert set(found) == {(s, t) for s in ("first", "second") for t in ("bbox", "segm")}
    results = json.loads((stages / "runs" / "second" / "results.json").read_text())["results"]
    names = ("AP", "APr", "APc", "APf")
    expected = [results["bbox"][n] for n in names]
    assert found["second", "bbox"] == ["nan" if v is None else f"{v:.2f}" for v in expected]
    for stage in ("first", "second"):
        folder = stages / "runs" / stage
        for path in ("model_final.pth", "inference/per_category_bbox.csv"):
            assert f"{stage}: {folder / path}" in report
            assert (folder / path).is_file()


def test_the_log_names_the_csv_of_the_classes(stages):
    folder = stages / "runs" / "first"
    log = (folder / "log.txt").read_text()
    assert log.count(f"Every class of bbox: {folder}/inference/per_category_bbox.csv") == 1


def test_the_config_goes_to_files_and_not_to_the_terminal(tmp_path, capsys):
    config = write_config(tmp_path, "config", DATASETS__TEST=(), SOLVER__MAX_ITER=1)
    run("--config-file", config)
    out = capsys.readouterr().out
    assert "IMS_PER_BATCH" not in out
    assert "Environment info" not in out
    assert f"Config {config}, written whole to {tmp_path}/out/config.yaml" in out
    assert out.count("Starting training from iteration 0") == 1
    log = (tmp_path / "out" / "log.txt").read_text()
    assert log.count("Running with full config") == log.count("Environment info") == 1
    assert "IMS_PER_BATCH" in log
    assert "IMS_PER_BATCH" in (tmp_path / "out" / "config.yaml").read_text()


def messages(caplog, *words: str) -> str:
    """Detectron2's loggers do not propagate: pytest's handler goes to ours."""
    logging.getLogger("lt_det.engine.run").addHandler(caplog.handler)
    caplog.clear()
    try:
        run(*words)
    finally:
        logging.getLogger("lt_det.engine.run").removeHandler(caplog.handler)
    return caplog.text


@pytest.mark.parametrize("tested", [True, False])
def test_finished_folders_are_said_to_be_so(tmp_path, caplog, tested):
    keys = {} if tested else {"DATASETS__TEST": ()}
    config = write_config(tmp_path, "config", SOLVER__MAX_ITER=1, **keys)
    out = tmp_path / "out"
    assert "finished" not in messages(caplog, "--config-file", config)
    time = (out / "model_final.pth").stat().st_mtime_ns
    text = messages(caplog, "--resume", "--config-file", config)
    assert f"Nothing to do: the training in OUTPUT_DIR {out} has had all 1 iterations" in text
    assert (out / "model_final.pth").stat().st_mtime_ns == time
    text = messages(caplog, "--resume", "--config-file", config, "SOLVER.MAX_ITER", "2")
    assert "Nothing to do" not in text
    text = messages(caplog, "--config-file", config)
    assert f"OUTPUT_DIR {out} holds a finished training (model_final.pth)" in text
    if tested:  # killed between its last iteration and the end of its evaluation
        os.remove(out / "results.json")
        assert "Nothing to do" not in messages(caplog, "--resume", "--config-file", config)
        assert (out / "results.json").is_file()


def test_weights_that_cannot_be_downloaded_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    from torch import nn

    checkpointer = LongTailCheckpointer(nn.Linear(1, 1))
    address = "http://127.0.0.1:9/model.pkl"  # nobody listens there
    with pytest.raises(ConnectionError, match=r"127.0.0.1:9/model.pkl' .* is there a network\?"):
        checkpointer.load(address)
    hint = r"Its address: https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/R-50.pkl"
    monkeypatch.setattr(checkpointer.path_manager, "get_local_path", _no_network)
    with pytest.raises(ConnectionError, match=hint):
        checkpointer.load("detectron2://ImageNetPretrained/R-50.pkl")


def _no_network(path, *args, **kwargs):
    raise OSError("Name or service not known")


def test_a_refused_run_leaves_the_config_of_another(tmp_path):
    config = write_config(tmp_path, "config", **STAGE_1)
    out = tmp_path / "out"
    refused = ("--config-file", config, "OUTPUT_DIR", str(out), "MODEL.WEIGHTS", "no_file.pth")
    with pytest.raises(FileNotFoundError):
        run(*refused)
    assert not (out / "config.yaml").exists()
    (out / "config.yaml").write_text("# of a training\n")
    with pytest.raises(FileNotFoundError):
        run(*refused)
    with pytest.raises(FileNotFoundError):
        run("--eval-only", *refused)
    assert (out / "config.yaml").read_text() == "# of a training\n"
    assert not list(out.glob("*.partial"))


def test_an_output_folder_that_is_a_file_is_named_by_a_run(tmp_path):
    config = write_config(tmp_path, "config", **STAGE_1)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="OUTPUT_DIR .*file is no folder"):
        run("--config-file", config, "OUTPUT_DIR", str(tmp_path / "file"))
