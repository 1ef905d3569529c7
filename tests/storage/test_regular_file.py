"""Only regular files are opened; a named pipe is refused at once."""

from __future__ import annotations

import os
import socket

import pytest

from lt_det.storage import regular_file
from lt_det.storage.regular_file import check_regular, open_regular


def test_regular_files_are_read(tmp_path):
    path = tmp_path / "a"
    path.write_text("é\n")
    (tmp_path / "link").symlink_to(path)
    for place in (path, tmp_path / "link", str(path)):
        with open_regular(place) as file:
            assert file.read() == "é\n".encode()
            assert file.name == str(place)
        with open_regular(place, "r", encoding="utf-8") as file:
            assert file.read() == "é\n"
        check_regular(place)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
    check_regular(tmp_path / "none")


def test_all_else_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(tmp_path / "socket"))
        for place, kind in (
            (tmp_path / "pipe", "a named pipe"),
            (tmp_path / "socket", "a socket"),
            (tmp_path, "a folder"),
            ("/dev/zero", "a device"),
        ):
            with pytest.raises(ValueError, match=f"{place} is {kind}: expected a regular file"):
                open_regular(place)
            with pytest.raises(ValueError, match=f"{place} is {kind}"):
                check_regular(place)


def test_own_files_are_no_links_and_nobody_elses(tmp_path, monkeypatch):
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    open_regular(tmp_path / "a", own=True).close()
    with pytest.raises(ValueError, match="link is a link"):
        open_regular(tmp_path / "link", own=True)
    monkeypatch.setattr(regular_file.os.path, "islink", lambda _: False)  # it came just now
    with pytest.raises(OSError, match="symbolic links"):
        open_regular(tmp_path / "link", own=True)
    monkeypatch.setattr(regular_file, "is_trusted_owner", lambda user: user == -1)
    open_regular(tmp_path / "a").close()
    with pytest.raises(ValueError, match="belongs to user"):
        open_regular(tmp_path / "a", own=True)
