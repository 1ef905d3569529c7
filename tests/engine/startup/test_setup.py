"""From the command line to a config; what bad input says."""

from __future__ import annotations

import argparse
import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from lt_det.engine.startup.setup import _forget_loggers, load_config, setup
from lt_det.engine.trainer import LongTailTrainer
from tests.engine.tiny import tiny_config, write_tiny_lvis


def write(tmp_path, text: str) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return str(path)


def test_typo_in_a_yaml_is_answered_with_the_nearest_key(tmp_path):
    path = write(tmp_path, "LT_DET:\n  LOSSS: balanced_softmax\n")
    with pytest.raises(
        KeyError, match=r"'LT_DET.LOSSS' in .*config.yaml.* did you mean LT_DET.LOSS"
    ):
        load_config(path)


def test_typo_on_the_command_line_is_answered_with_the_nearest_key():
    with pytest.raises(KeyError, match="LT_DET.META.ENABLE.*command line.*LT_DET.META.ENABLED"):
        load_config("", ["LT_DET.META.ENABLE", "True"])


def test_options_come_in_pairs():
    with pytest.raises(ValueError, match=r"KEY VALUE pairs.*--resume.*before them"):
        load_config("", ["SEED", "1", "--resume"])


def test_wrong_type_names_the_key():
    with pytest.raises(ValueError, match=r"LT_DET.LOSS_PARAMS.BALANCED_SOFTMAX.TAU"):
        load_config("", ["LT_DET.LOSS_PARAMS.BALANCED_SOFTMAX.TAU", "much"])


def test_python_tags_are_refused_and_not_run(tmp_path):
    trace = tmp_path / "trace"
    path = write(tmp_path, f"OUTPUT_DIR: !!python/object/apply:os.system ['touch {trace}']\n")
    with pytest.raises(ValueError, match=r"was refused: it is not plain yaml \(python tags"):
        load_config(path)
    assert not trace.exists()


def test_missing_config_is_named():
    with pytest.raises(FileNotFoundError, match="--config-file 'no/such.yaml' does not exist"):
        load_config("no/such.yaml")


def test_one_line_of_yaml_registers_a_data_set(tmp_path):
    json_file, root = write_tiny_lvis(tmp_path)
    name = f"one_line_{tmp_path.name}"
    load_config(write(tmp_path, f"LT_DET:\n  DATASETS: [['{name}', '{json_file}', '{root}']]\n"))
    assert len(DatasetCatalog.get(name)) == 8
    assert MetadataCatalog.get(name).evaluator_type == "lvis"
    assert MetadataCatalog.get(name).thing_classes[0] == "class_0"


def test_unregistered_data_set_names_the_environment_variable(tmp_path):
    cfg = tiny_config(tmp_path, DATASETS__TRAIN=("lvis_v1_trian",))
    with pytest.raises(KeyError, match=r"lvis_v1_trian[\s\S]*lvis_v1_train"):
        LongTailTrainer(cfg)


def test_missing_json_names_the_environment_variable(tmp_path, monkeypatch):
    cfg = tiny_config(tmp_path, DATASETS__TRAIN=("lvis_v1_train",))
    with pytest.raises(FileNotFoundError, match="DETECTRON2_DATASETS"):
        LongTailTrainer(cfg)


@pytest.fixture
def _loggers_as_before():
    """Setting up logging is for the whole process; other tests look at propagated records."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "lt_det")]
    before = [(one.propagate, one.level, list(one.handlers)) for one in loggers]
    yield
    _forget_loggers()
    for logger, (propagate, level, handlers) in zip(loggers, before):
        logger.propagate, logger.handlers = propagate, handlers
        logger.setLevel(level)


@pytest.mark.usefixtures("_loggers_as_before")
def test_escape_sequences_in_names_do_not_reach_the_terminal(tmp_path, capsys):
    config = write(tmp_path, f"OUTPUT_DIR: {tmp_path / 'out'}\nMODEL:\n  DEVICE: cpu\n")
    setup(argparse.Namespace(config_file=config, opts=[], eval_only=False))
    capsys.readouterr()
    for name in ("lt_det.data.x", "detectron2.data.x"):
        logging.getLogger(name).warning("class %s of \x1b[36mtable\x1b[0m", "\x1b]0;x\x07\x1b[2J")
    shown = capsys.readouterr()
    log = (tmp_path / "out" / "log.txt").read_text()
    for text in (shown.out + shown.err, log):
        assert text.count(r"class \x1b]0;x\x07\x1b[2J of") == 2
        assert "\x1b[2J" not in text
        assert "\x1b]" not in text
