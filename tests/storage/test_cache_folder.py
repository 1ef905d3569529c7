"""A cache folder that cannot be used costs one warning, not the run."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import pytest

from lt_det.storage import cache_folder, regular_file
from lt_det.storage.cache_folder import default_cache_folder, usable_cache_folder, why_not_usable


@pytest.fixture(autouse=True)
def _no_warning_yet(monkeypatch):
    monkeypatch.setattr(cache_folder, "_warned", set())


@pytest.fixture
def as_user(monkeypatch):
    """Pretend to be another user than the one that makes the files; root stays trusted."""

    def become(user: int) -> None:
        monkeypatch.setattr(regular_file.os, "geteuid", lambda: user)

    return become


def test_a_folder_is_made_for_its_user_only(tmp_path, monkeypatch):
    before = os.umask(0)
    try:
        assert usable_cache_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o755
    monkeypatch.setenv("LT_DET_CACHE", str(tmp_path / "c"))
    assert usable_cache_folder() == tmp_path / "c"


def test_a_folder_reached_by_a_link_is_judged_by_what_it_is(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert usable_cache_folder(tmp_path / "link") == tmp_path / "link"
    (tmp_path / "real").chmod(0o777)
    assert "others may write it" in (why_not_usable(tmp_path / "link") or "")


@pytest.mark.parametrize("place", ["a/b/cache", "link", "a/b/made/now", "a/link"])
def test_a_folder_that_others_could_replace_is_refused(tmp_path, place):
    """By renaming a folder above it; in a sticky one, such as /tmp, only owners rename."""
    (tmp_path / "a" / "b" / "cache").mkdir(parents=True)
    (tmp_path / "own").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b" / "cache")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "own")  # the link itself, there
    assert why_not_usable(tmp_path / place) is None
    (tmp_path / "a").chmod(0o1777)
    assert why_not_usable(tmp_path / place) is None
    (tmp_path / "a").chmod(0o777)
    reason = why_not_usable(tmp_path / place) or ""
    assert f"others may replace it in {tmp_path / 'a'} (chmod o-w {tmp_path / 'a'})" in reason


def test_nothing_is_made_where_others_could_replace_it(tmp_path):
    tmp_path.chmod(0o777)
    assert "others may replace it" in (why_not_usable(tmp_path / "x" / "y") or "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("file", "it is no folder"),
        ("file/sub", "it is no folder"),
        ("dangling", "File exists|no folder|No such file"),
        ("/dev/null", "it is no folder"),
        ("/dev/null/sub", "it is no folder"),
        ("~nouser/cache", "there is no home directory for '~nouser'"),
        ("/proc/none", "/proc/none"),
        ("writable", r"others may write it \(chmod go-w"),
        ("sticky", "others may write it"),
        ("group", "others may write it"),
    ],
)
def test_folders_that_cannot_be_used_give_one_warning_with_the_reason(
    tmp_path, caplog, monkeypatch, place, reason
):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "none" / "none")
    for name, mode in (("writable", 0o757), ("sticky", 0o1777), ("group", 0o775)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    monkeypatch.setattr(cache_folder, "_is_private_group", lambda *_: False)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert usable_cache_folder(place) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert caplog.text.count("Nothing could be cached") == 1
    assert re.search(reason, record.getMessage()), record.getMessage()
    assert not Path("~nouser").exists()


def test_no_home_directory(monkeypatch, tmp_path, caplog):
    for name in ("LT_DET_CACHE", "FVCORE_CACHE", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does then
    monkeypatch.chdir(tmp_path)
    assert str(default_cache_folder()) == "~/.cache/lt_det"
    assert usable_cache_folder() is None
    assert "there is no home directory for '~'" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_user_is_refused(tmp_path, as_user):
    if os.geteuid() == 0:
        os.chown(tmp_path, 12345, -1)
    as_user(54321)
    assert "it belongs to another user (" in (why_not_usable(tmp_path) or "")


def test_a_folder_of_root_is_taken(tmp_path, as_user):
    if tmp_path.stat().st_uid != 0:
        pytest.skip("only root can make one")
    as_user(54321)
    assert why_not_usable(tmp_path) is None


def test_a_group_of_one_is_no_other(tmp_path, monkeypatch):
    import grp
    import pwd

    class Entry:
        pw_name = gr_name = "me"
        gr_mem: list[str] = []

    tmp_path.chmod(0o775)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: Entry)
    monkeypatch.setattr(grp, "getgrgid", lambda _: Entry)
    assert why_not_usable(tmp_path) is None
    Entry.gr_mem = ["me", "you"]
    assert "others may write it" in (why_not_usable(tmp_path) or "")


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LT_DET_CACHE", raising=False)
    monkeypatch.delenv("FVCORE_CACHE", raising=False)
    assert default_cache_folder() == tmp_path / "home/.cache/lt_det"
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "fv"))
    assert default_cache_folder() == tmp_path / "fv/lt_det"
    monkeypatch.setenv("LT_DET_CACHE", str(tmp_path / "own"))
    assert default_cache_folder() == tmp_path / "own"
