from __future__ import annotations

import errno
import os

import pytest

from lt_det.storage import atomic_write, line_file
from lt_det.storage.line_file import append_lines, filter_lines, read_lines


def test_lines_come_back_in_order(tmp_path):
    path = tmp_path / "lines"
    assert read_lines(path) == []
    append_lines(path, ["a", "b"])
    append_lines(path, ["ü"])
    assert read_lines(path) == ["a\n", "b\n", "ü\n"]


def test_a_half_line_is_none_and_other_bytes_stay(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"\xff\r\nb\nhalf")
    filter_lines(path, lambda line: line != "b\n")
    assert path.read_bytes() == b"\xff\r\n"


def test_a_missing_file_stays_missing(tmp_path):
    filter_lines(tmp_path / "lines", bool)
    assert not (tmp_path / "lines").exists()


def test_a_failed_filter_leaves_the_file(tmp_path, monkeypatch):
    path = tmp_path / "lines"
    append_lines(path, ["a", "b"])

    def fail(*_):
        raise OSError("no")

    monkeypatch.setattr(atomic_write.os, "replace", fail)
    with pytest.raises(OSError, match="no"):
        filter_lines(path, lambda line: line == "a\n")
    assert read_lines(path) == ["a\n", "b\n"]


@pytest.mark.parametrize("half", ["half", "x" * 200_000])
@pytest.mark.parametrize("before", ["", "a\n"])
def test_no_line_is_glued_to_a_half_one(tmp_path, half, before):
    path = tmp_path / "lines"
    path.write_text(before + half)
    append_lines(path, ["b"])
    assert path.read_text() == f"{before}b\n"


def test_nothing_is_written_through_a_link_or_into_a_pipe(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "lines"
    victim.write_text("precious\n")
    path.symlink_to(victim)
    with pytest.raises(ValueError, match="lines is a link: expected a regular file, or none yet"):
        append_lines(path, ["a"])
    assert victim.read_text() == "precious\n"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="lines is a named pipe: expected a regular file"):
        append_lines(path, ["a"])


def test_a_full_disk_is_named_with_the_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "lines"
    append_lines(path, ["a"])
    monkeypatch.setattr(line_file.os, "fsync", full)
    with pytest.raises(OSError, match="lines could not be written .No space left.* free on its"):
        append_lines(path, ["b"])
