"""What is given in the wrong place on the command line is named before anything is read."""

from __future__ import annotations

import json

import pytest

from lt_det.cli.commands import main
from tests.data.inspection.test_data_sets import good


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_text(json.dumps(good()))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", [["check-data"], ["new-project", "--output", "p"]])
@pytest.mark.parametrize("place", [".", "annotations"])
def test_a_folder_of_jsons_is_no_folder_of_classes(folder, capsys, command, place):
    assert main([*command, "--train", place, "--images", "images"]) != 0
    said = capsys.readouterr()
    assert "name the json" in said.err
    assert "annotations/train.json" in said.err


def test_a_file_is_no_folder_of_images_and_nothing_is_evaluated(folder, capsys):
    json_file = "annotations/train.json"
    assert main(["check-data", "--train", json_file, "--images", json_file]) == 1
    said = capsys.readouterr().out
    assert f"'{json_file}' is a file, no folder of images" in said
    assert "Nothing is evaluated: name a validation json with --val" in said
    main(["check-data", "--train", json_file, "--val", json_file])
    assert "Nothing is evaluated" not in capsys.readouterr().out
