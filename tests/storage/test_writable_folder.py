"""An output folder that cannot be written is found before anything is computed for it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from lt_det.cli.balance import main as balance
from lt_det.cli.compare import main as compare
from lt_det.report.run_page.writing import save_run_page
from lt_det.storage.writable_folder import check_writable_folder
from tests.storage.small_disk import on_small_disk


def test_folders_that_are_there_or_can_be_made_pass_and_stay_as_they_were(tmp_path):
    check_writable_folder(tmp_path)
    check_writable_folder(tmp_path / "new" / "folder")
    os.symlink(tmp_path, tmp_path / "link")
    check_writable_folder(tmp_path / "link")
    assert sorted(os.listdir(tmp_path)) == ["link"]


@pytest.mark.parametrize(
    ("inner", "what"),
    [
        *(("file", "no folder"), ("file/below", "no folder"), ("link", "no folder")),
        ("nowhere", "a link to nothing"),
    ],
)
def test_what_is_no_folder_is_refused(tmp_path, inner, what):
    (tmp_path / "file").write_text("")
    os.symlink(tmp_path / "file", tmp_path / "link")
    os.symlink(tmp_path / "gone", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=rf"^--output .* is {what}; set "):
        check_writable_folder(tmp_path / inner)


def test_a_tilde_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^--output '~/x' begins with ~.* './~/x'"):
        check_writable_folder("~/x")
    check_writable_folder("./~/x")


def test_a_folder_that_takes_no_file_is_refused(monkeypatch, tmp_path):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lt_det.storage.writable_folder.tempfile.TemporaryFile", full)
    with pytest.raises(ValueError, match=r"cannot be written \(No space left on device in "):
        check_writable_folder(tmp_path / "new", name="output")


@pytest.mark.parametrize(
    "start",
    [
        lambda runs, output: save_run_page([(None, runs)], output),
        lambda runs, output: compare([runs, runs, "--output", output]),
        lambda runs, output: balance(["--config-file", _config(runs), "--output", output]),
    ],
    ids=["report", "compare", "balance"],
)
def test_commands_look_first(tmp_path, start):
    """What they are to work on is not there: that would be the next error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="output .* is no folder; set another"):
        start(str(tmp_path / "none"), str(tmp_path / "file" / "report"))


def _config(folder: str) -> str:
    path = Path(folder).parent / "config.yaml"
    path.write_text("MODEL: {WEIGHTS: ''}\n")
    return str(path)


LOOK = """
from lt_det.storage.writable_folder import check_writable_folder
try:
    check_writable_folder(place / "new")
except ValueError as error:
    print(error)
print(list(place.iterdir()))
"""


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("size=64k", "0.1 MiB"),
        ("size=1m,nr_inodes=1", "1.0 MiB, but no entry for a new file"),
        ("size=1m,ro", "1.0 MiB"),
    ],
)
def test_a_small_disk_is_found_and_left_as_it_is(tmp_path, options, reason):
    said, left = on_small_disk(tmp_path, options, LOOK).splitlines()
    assert re.search(
        rf"--output '.*new' cannot be written \(.*, of whose disk are free {reason}", said
    )
    assert left == "[]"


def test_a_disk_with_room_is_fine(tmp_path):
    assert on_small_disk(tmp_path, "size=1m", LOOK) == "[]\n"
