"""Locks: one at a time, through no link, and waiting is said."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lt_det.storage import locks, regular_file
from lt_det.storage.locks import file_lock

_HOLDER = """
import sys
from lt_det.storage.locks import file_lock
with file_lock(sys.argv[1], number=eval(sys.argv[2])) as mine:
    print(mine, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def held():
    """A function that lets another process hold a lock; gives the process."""
    started = []

    def hold(path, number):
        command = [sys.executable, "-c", _HOLDER, str(path), repr(number)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        started.append(process)
        assert process.stdout.readline() == "True\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [None, 0, 3])
def test_another_process_holds_it_until_it_ends(tmp_path, held, number):
    path = tmp_path / "lock"
    other = held(path, number)
    with file_lock(path, number=number, wait=False) as mine:
        assert not mine
    if number is not None:
        with file_lock(path, number=number + 1, wait=False) as mine:
            assert mine
    other.kill()
    other.wait()
    with file_lock(path, number=number) as mine:
        assert mine


@pytest.mark.parametrize("number", [None, 3])
def test_waiting_is_said_with_the_owner(tmp_path, held, number, caplog, monkeypatch):
    path = tmp_path / "lock"
    other = held(path, number)
    monkeypatch.setattr(locks, "SAY_AFTER_SECONDS", 0.05)
    naps = []

    def nap(seconds):
        naps.append(seconds)
        if any("Waiting" in message for message in caplog.messages):
            other.kill()
            other.wait()

    sleep = locks.time.sleep
    monkeypatch.setattr(locks.time, "sleep", lambda s: (nap(s), sleep(s)))
    with caplog.at_level("INFO"), file_lock(path, number=number) as mine:
        assert mine
    assert naps
    expected = rf"Waiting for the lock {path} of process {other.pid} on .*, since \d{{4}}-"
    assert re.search(expected, caplog.messages[0])
    assert len(caplog.messages) == 2  # and that it has it


def test_a_planted_link_is_not_followed(tmp_path, caplog):
    victim = tmp_path / "victim"
    for target in (victim, tmp_path / "gone"):
        victim.write_text("precious")
        (tmp_path / "lock").symlink_to(target)
        with file_lock(tmp_path / "lock") as mine:
            assert mine  # nothing is locked, and the work goes on
        assert victim.read_text() == "precious"
        assert not (tmp_path / "gone").exists()
        (tmp_path / "lock").unlink()
    assert caplog.text.count("No lock: ") == 2


def test_a_file_with_a_second_name_is_not_written(tmp_path):
    (tmp_path / "victim").write_text("precious")
    os.link(tmp_path / "victim", tmp_path / "lock")
    with file_lock(tmp_path / "lock") as mine:
        assert mine
    assert (tmp_path / "victim").read_text() == "precious"


def test_neither_a_pipe_nor_a_file_of_another_user_is_opened(tmp_path, monkeypatch, caplog):
    os.mkfifo(tmp_path / "pipe")
    with file_lock(tmp_path / "pipe") as mine:
        assert mine
    assert "is a named pipe" in caplog.text
    (tmp_path / "lock").touch()
    monkeypatch.setattr(regular_file, "is_trusted_owner", lambda _: False)
    with file_lock(tmp_path / "lock") as mine:
        assert mine
    assert "belongs to user" in caplog.text


def test_a_folder_that_cannot_be_written_is_no_matter(tmp_path, caplog):
    with file_lock(tmp_path / "none" / "lock") as mine:
        assert mine
    # Whoever wants to write there says it.
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_where_files_cannot_be_locked_everybody_gets_in(tmp_path, monkeypatch):
    import errno
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with file_lock(tmp_path / "lock") as mine:
        assert mine
