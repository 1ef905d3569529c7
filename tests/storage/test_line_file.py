from __future__ import annotations

import pytest

from lt_det.storage import atomic_write
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
