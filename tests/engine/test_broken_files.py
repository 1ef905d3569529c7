"""Checkpoints and configs that are no such thing: one message, and the next load works."""

from __future__ import annotations

import argparse
import io
import os
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from lt_det.engine.checkpoint import LongTailCheckpointer
from lt_det.engine.stages import run_stages
from lt_det.engine.startup.setup import load_config

WEIGHTS = {"weight": np.full((2, 2), 3.0, np.float32), "bias": np.ones(2, np.float32)}


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.pth", b"", "was not loaded .*broken"),
        ("empty.pkl", b"", "was not loaded .*broken"),
        ("text.pth", b"hello world, this is text", "was not loaded .*broken"),
        ("text.pkl", b"hello world, this is text", "was not loaded .*broken"),
        ("number.pth", saved(3), "holds a int, no weights"),
        ("tensor.pth", saved(torch.zeros(2)), "holds a Tensor, no weights"),
        ("list.pkl", pickle.dumps([1, 2]), "holds a list, no weights"),
        ("nothing.pth", saved({"model": None}), "holds a NoneType as its model"),
        ("nested.pth", saved({"model": {"a": {}}}), "holds a dict as 'a', no tensor"),
        ("other.pth", saved({"state": {"weight": torch.zeros(1)}}), "holds a dict as 'state'"),
    ],
)
def test_file_without_weights(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    checkpointer = LongTailCheckpointer(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=f"checkpoint .*{name}' {message}") as caught:
        checkpointer.load(str(path))
    assert "weights_only" not in str(caught.value)  # torch's advice to run what is in it

    # The same checkpointer still loads a good one.
    good = tmp_path / "good.pth"
    torch.save({k: torch.from_numpy(v) for k, v in WEIGHTS.items()}, good)
    checkpointer.load(str(good))
    assert torch.equal(checkpointer.model.weight, torch.full((2, 2), 3.0))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_pickle_protocol(tmp_path, protocol):
    path = tmp_path / "zoo.pkl"
    path.write_bytes(pickle.dumps({"model": WEIGHTS, "__author__": "x"}, protocol=protocol))
    model = nn.Linear(2, 2)
    LongTailCheckpointer(model).load(str(path))
    assert torch.equal(model.weight, torch.full((2, 2), 3.0))


def test_names_are_matched_where_the_path_asks_for_it(tmp_path):
    """Detectron2's ``?matching_heuristics=True``: names that only end alike."""
    if not hasattr(LongTailCheckpointer(nn.Linear(1, 1)), "_parsed_url_during_load"):
        pytest.skip("Detectron2 v0.6 knows no such paths")
    path = tmp_path / "other.pth"
    torch.save({k: torch.from_numpy(v) for k, v in WEIGHTS.items()}, path)
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2)))
    LongTailCheckpointer(model).load(f"{path}?matching_heuristics=True")
    assert torch.equal(model[0][0].weight, torch.full((2, 2), 3.0))


@pytest.mark.parametrize("author", [True, False])
def test_pickles_cannot_reach_other_functions(tmp_path, author):
    """Also not by a name with dots, behind a permitted one, or in an array of objects."""
    trace = tmp_path / "trace"

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(trace),)

    content = {"weight": np.array([Attack()], dtype=object)}
    if author:
        content = {"model": content, "__author__": "x"}
    path = tmp_path / "attack.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="the file holds an array of 'O8', not of numbers"):
        LongTailCheckpointer(nn.Linear(2, 2)).load(str(path))
    # Protocol 4 may name an attribute of an attribute.
    dotted = b"compat.py3k.os.mkdir"
    name = b"\x8c" + bytes([len(dotted)]) + dotted
    path.write_bytes(b"\x80\x04\x8c\x05numpy" + name + b"\x93.")
    with pytest.raises(ValueError, match=r"names numpy.compat"):
        LongTailCheckpointer(nn.Linear(2, 2)).load(str(path))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no tree of config keys"),
        ("- 1\n- 2\n", "is no tree of config keys"),
        ("just a sentence", "is no tree of config keys"),
        ("MODEL: 3\n", "is no tree of config keys"),
        ("SOLVER:\n  GAMMA: x\n", "SOLVER.GAMMA"),
        ("_BASE_: config.yaml\n", "is a _BASE_ of itself"),
        ("a: [1\n", "is not plain yaml"),
    ],
)
def test_yaml_that_is_no_config_is_named(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"config.yaml'.*{message}"):
        load_config(str(path))


def test_missing_base_is_named(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("_BASE_: gone.yaml\n")
    with pytest.raises(FileNotFoundError, match="gone.yaml"):
        load_config(str(path))


def test_flag_between_options_is_no_key():
    with pytest.raises(KeyError, match="'--resume' in the command line.*go before"):
        load_config("", ["--resume", "--eval-only"])


def test_stages_are_for_training(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("SEED: 1\n")
    args = argparse.Namespace(stages=[str(path)], opts=[], resume=False, eval_only=True)
    with pytest.raises(ValueError, match="--stages trains; evaluate one config with --eval-only"):
        run_stages(args, lambda _: None)
    args.eval_only, args.stages = False, ["SEED", "1"]
    with pytest.raises(ValueError, match=r"needs yaml files, got \['SEED', '1'\]"):
        run_stages(args, lambda _: None)
