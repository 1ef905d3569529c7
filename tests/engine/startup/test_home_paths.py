"""A ``~`` in the paths of a config is the home directory, in a yaml too."""

from __future__ import annotations

import os

import pytest

from lt_det.engine.startup.home_paths import PATH_KEYS
from lt_det.engine.startup.output_folder import check_output_folder
from lt_det.engine.startup.setup import read_config


def value_of(cfg, key):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


@pytest.mark.parametrize("key", PATH_KEYS)
def test_the_home_directory_takes_the_place_of_a_tilde(tmp_path, monkeypatch, key):
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("~/a b/c?matching_heuristics=True", "~"):
        assert value_of(read_config("", [key, text]), key) == str(tmp_path) + text[1:]
    for text in ("s3://~/a", "a/~", "./~"):
        assert value_of(read_config("", [key, text]), key) == text


def test_a_tilde_in_a_yaml_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "base.yaml").write_text("OUTPUT_DIR: ~/base\nMODEL: {WEIGHTS: ~/w.pth}\n")
    (tmp_path / "c.yaml").write_text("_BASE_: base.yaml\nOUTPUT_DIR: ~/runs\n")
    cfg = read_config(str(tmp_path / "c.yaml"))
    assert f"{tmp_path}/runs" == cfg.OUTPUT_DIR
    assert f"{tmp_path}/w.pth" == cfg.MODEL.WEIGHTS


@pytest.mark.parametrize("key", PATH_KEYS)
def test_a_user_that_is_not_there_is_said(key):
    with pytest.raises(ValueError, match=f"{key} '~nouser/x': there is no home .* '~nouser'.*\\./"):
        read_config("", [key, "~nouser/x"])


def test_a_config_that_was_made_elsewhere_names_no_folder_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("~nouser/x", "~/x"):
        with pytest.raises(ValueError, match=f"OUTPUT_DIR '{folder}' begins with ~"):
            check_output_folder(folder)
    check_output_folder("./~nouser/x")
    assert not os.listdir(tmp_path)
