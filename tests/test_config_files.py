"""Configs are found by name, and the paths in them from where they lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lt_det import config_files
from lt_det.config_files import config_folder, find_config
from lt_det.engine.startup.setup import read_config


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Packaged configs: one, one in a folder, two of one name, and a part."""
    root = tmp_path / "package" / "configs"
    for name in ("one.yaml", "in/two.yaml", "in/twice.yaml", "on/twice.yaml", "_base_/one.yaml"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"OUTPUT_DIR: {name}\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(config_files, "config_folder", lambda: root)
    return root


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("one.yaml", "one.yaml"),
        ("one", "one.yaml"),
        ("two.yaml", "in/two.yaml"),
        ("configs/two.yaml", "in/two.yaml"),
        ("configs/in/two.yaml", "in/two.yaml"),
        ("on/twice.yaml", "on/twice.yaml"),
        ("lt_det://two", "in/two.yaml"),
        ("_base_/one.yaml", "_base_/one.yaml"),
    ],
)
def test_names_are_found_in_all_folders(folder, name, found):
    assert find_config(name) == str(folder / found)
    assert found == read_config(name).OUTPUT_DIR


def test_a_file_of_the_user_goes_first_unless_the_prefix_says_otherwise(folder):
    Path("one.yaml").write_text("OUTPUT_DIR: mine\n")
    assert read_config("one.yaml").OUTPUT_DIR == "mine"
    assert read_config("lt_det://one.yaml").OUTPUT_DIR == "one.yaml"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("twice.yaml", r"'twice.yaml' could be in/twice.yaml or on/twice.yaml .*name its folder"),
        ("tow.yaml", r"'tow.yaml' does not exist.*close names: in/two.yaml"),
        ("/elsewhere/one.yaml", "'/elsewhere/one.yaml' does not exist"),
        ("../one.yaml", "'../one.yaml' does not exist"),
        ("elsewhere/one.yaml", "'elsewhere/one.yaml' does not exist.*close names: one.yaml"),
        ("lt_det://nothing", "'lt_det://nothing' does not exist"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(folder, name, message):
    with pytest.raises(FileNotFoundError, match=message):
        find_config(name)


def test_a_base_may_be_a_config_of_the_package(folder, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("_BASE_: ['lt_det://two.yaml']\nSEED: 3\n")
    cfg = read_config(str(path))
    assert (cfg.OUTPUT_DIR, cfg.SEED) == ("in/two.yaml", 3)
    path.write_text("_BASE_: 'gone.yaml'\n")
    with pytest.raises(FileNotFoundError, match=r"mine.yaml': _BASE_ '.*gone.yaml' does not exist"):
        read_config(str(path))


def test_paths_of_data_sets_count_from_the_file_that_names_them(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "data" / "sets.yaml").write_text(
        "LT_DET: {DATASETS: [['a', 'a.json', 'images/'], ['b', '/else/b.json', '../b'], "
        "['c', '~/c.json'], ['d', 's3://d.json', '']]}\n"
    )
    (tmp_path / "runs" / "run.yaml").write_text("_BASE_: '../data/sets.yaml'\nSEED: 1\n")
    (tmp_path / "runs" / "own.yaml").write_text(
        "_BASE_: '../data/sets.yaml'\nLT_DET: {DATASETS: '((\"e\", \"e.json\"),)'}\n"
    )
    monkeypatch.chdir(tmp_path)
    data = str(tmp_path / "data")
    for path in (str(tmp_path / "runs" / "run.yaml"), os.path.join("runs", "run.yaml")):
        assert [
            ["a", f"{data}/a.json", f"{data}/images"],
            ["b", "/else/b.json", f"{tmp_path}/b"],
            ["c", "~/c.json"],
            ["d", "s3://d.json", ""],
        ] == read_config(path).LT_DET.DATASETS
    assert [["e", f"{tmp_path}/runs/e.json"]] == read_config("runs/own.yaml").LT_DET.DATASETS
    # On the command line they count from the current folder, as everything there does.
    options = ["LT_DET.DATASETS", "[['f', 'f.json', 'i']]"]
    written = read_config("runs/run.yaml", options).LT_DET.DATASETS
    assert written == [["f", f"{tmp_path}/f.json", f"{tmp_path}/i"]]  # from where the user is


def test_a_folder_with_a_dot_in_its_name_is_no_config(folder):
    (folder / "in_v0.5").mkdir()
    with pytest.raises(FileNotFoundError, match=r"'in_v0.5' does not exist"):
        find_config("in_v0.5")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "balms_r50.yaml",
            r"'balms_r50.yaml' could be coco/balms_r50.yaml or lvis_v0.5/balms_r50.yaml .*"
            "name its folder",
        ),
        ("lvis_balms_r101.yaml", r"close names: .*lvis_v1/balms_r101.yaml"),
        ("coco_retinanet_r50_focal_1x.yaml", r"close names: coco/retinanet_r50_focal"),
        ("lvis_stage1_softmax_r50", r"close names: .*lvis_v1/stage1_softmax_r50.yaml"),
    ],
)
def test_a_name_of_several_configs_or_of_before_is_answered_with_folders(name, message):
    with pytest.raises(FileNotFoundError, match=message):
        find_config(name)


@pytest.mark.parametrize("name", ["coco/retinanet_r50_focal", "lt_det://coco/balms_r50.yaml"])
def test_a_folder_tells_configs_of_one_name_apart(name):
    found = find_config(name)
    assert found == str(config_folder() / "coco" / os.path.basename(found))


def test_configs_come_with_this_package():
    names = {path.name for path in config_folder().rglob("*.yaml")}
    assert {"lvis_balms_r50.yaml", "digits_lt_ce.yaml"} <= names
    cfg = read_config("digits_lt_ce.yaml")
    assert cfg.MODEL.META_ARCHITECTURE == "LongTailImageClassifier"
