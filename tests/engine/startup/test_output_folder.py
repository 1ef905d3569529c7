"""OUTPUT_DIR is looked at before anything is computed, and left as it is."""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import tempfile
import threading

import pytest

from lt_det.engine.stages import run_stages
from lt_det.engine.startup import output_folder
from lt_det.engine.startup.log_file import keep_explained_errors_off_terminal, say_once
from lt_det.engine.startup.output_folder import check_output_folder, config_of_started_runs
from lt_det.engine.startup.setup import setup


def test_folders_that_can_be_written_are_left_as_they_are(tmp_path, monkeypatch):
    check_output_folder(str(tmp_path))
    check_output_folder(str(tmp_path / "new" / "folder"))
    (tmp_path / "link").symlink_to(tmp_path)
    check_output_folder(str(tmp_path / "link"))
    (tmp_path / "link").unlink()
    monkeypatch.chdir(tmp_path)
    check_output_folder("./output")
    check_output_folder("s3://bucket/folder")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("", "must be the path of a folder, got ''"),
        (" ", "must be the path of a folder"),
        (None, "must be the path of a folder, got None"),
        ("file", "file is no folder"),
        ("file/sub", "file is no folder"),
        ("link", "link is a link to nothing"),
        ("/dev/null", "/dev/null is no folder"),
        ("/proc/sub", "cannot be written"),
    ],
)
def test_all_else_is_refused(tmp_path, monkeypatch, folder, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("gone")
    with pytest.raises(ValueError, match=f"OUTPUT_DIR .*{reason}"):
        check_output_folder(folder)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "last_checkpoint", "log.txt"])
@pytest.mark.parametrize("kind", ["a link", "a named pipe"])
def test_files_of_a_run_that_are_none_are_refused_and_stay(tmp_path, name, kind):
    victim, path = tmp_path / "victim", tmp_path / "out" / name
    path.parent.mkdir()
    victim.write_text("precious")
    (tmp_path / "link").symlink_to(path.parent)  # of the user: it may be one
    check_output_folder(str(tmp_path / "link"))
    if kind == "a link":
        path.symlink_to(victim)
    else:
        os.mkfifo(path)
    refused = pytest.raises(ValueError, match=f"OUTPUT_DIR .*{name} is {kind}: expected.*; delete")
    with refused, config_of_started_runs(str(tmp_path / "link")):
        check_output_folder(str(tmp_path / "link"))
    assert victim.read_text() == "precious"
    assert os.path.lexists(path)


@pytest.mark.parametrize("kind", ["a link", "a named pipe"])
def test_each_process_looks_at_its_own_log(tmp_path, monkeypatch, kind):
    path = tmp_path / "log.txt.rank1"
    path.symlink_to(tmp_path / "victim") if kind == "a link" else os.mkfifo(path)
    check_output_folder(str(tmp_path))  # the main process has another
    for rank, is_theirs in ((1, True), (2, False)):
        monkeypatch.setattr(output_folder.comm, "get_rank", lambda rank=rank: rank)
        if is_theirs:
            with pytest.raises(ValueError, match=f"OUTPUT_DIR .*log.txt.rank1 is {kind}: expected"):
                check_output_folder(str(tmp_path))
        else:
            check_output_folder(str(tmp_path))
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_read_only_and_full_disks_are_found(tmp_path, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(ValueError, match=f"cannot be written .{os.strerror(number)} in "):
        check_output_folder(str(tmp_path / "sub"))


def test_a_disk_without_room_for_a_log_is_found(tmp_path, monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, content):
            assert len(content) >= 2**18
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(ValueError, match="written .No space left on device in .*, of whose disk"):
        check_output_folder(str(tmp_path))


def test_a_log_that_cannot_be_written_is_said_once(tmp_path, capsys):
    class Full(io.StringIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    stream = Full()
    stream.name = str(tmp_path / "log.txt")
    handler = logging.StreamHandler(stream)
    say_once([handler])
    record = logging.LogRecord("a", logging.INFO, "", 1, "text", None, None)
    for _ in range(3):
        handler.handle(record)
    said = capsys.readouterr().err
    assert said.count("log.txt cannot be written (No space left on device)") == 1
    assert len(said.splitlines()) == 1
    handler.handle(logging.LogRecord("a", logging.INFO, "", 1, "%d", ("no number",), None))
    assert "Logging error" in capsys.readouterr().err  # of the code, not of the disk


@pytest.mark.parametrize("name", ["run.log", "run.txt"])
def test_a_folder_that_detectron2_takes_for_a_log_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"OUTPUT_DIR .*{name}' ends in .*another"):
        check_output_folder(str(tmp_path / name))


def test_all_stages_are_looked_at_before_the_first_runs(tmp_path):
    (tmp_path / "file").touch()
    for name, folder in (("a", "out"), ("b", "file")):
        (tmp_path / f"{name}.yaml").write_text(f"OUTPUT_DIR: {tmp_path / folder}\n")
    stages = [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]
    args = argparse.Namespace(stages=stages, opts=[], resume=False, eval_only=False)
    with pytest.raises(ValueError, match="file is no folder"):
        run_stages(args, lambda _: pytest.fail("a stage ran"))
    args = argparse.Namespace(config_file=stages[1], opts=[])
    with pytest.raises(ValueError, match="file is no folder"):
        setup(args)


def test_threads_keep_quiet_about_a_full_disk_only(monkeypatch):
    said = []
    monkeypatch.setattr(threading, "excepthook", said.append)
    for _ in range(2):
        keep_explained_errors_off_terminal([])
    hook = threading.excepthook
    full, other = OSError(errno.ENOSPC, "full"), OSError(errno.EACCES, "not allowed")
    for error in (full, other):
        hook(threading.ExceptHookArgs([type(error), error, None, None]))
    assert [arguments.exc_value for arguments in said] == [other]
