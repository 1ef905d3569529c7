"""Files appear whole or not at all; links are not written through; a full disk is named."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lt_det.storage import atomic_write
from lt_det.storage.atomic_write import atomic_file, atomic_path, remove_partial_files
from tests.storage.small_disk import on_small_disk

REPOSITORY = Path(__file__).parents[2]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "sub" / "a.txt"
    with atomic_file(path) as file:
        file.write("old\n")

    def write_half() -> None:
        with atomic_file(path, "wb") as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    with pytest.raises(KeyError), atomic_path(path):
        raise KeyError
    assert path.read_bytes() == b"old\n"
    assert list(path.parent.iterdir()) == [path]
    with atomic_path(path, sync=True) as partial:
        Path(partial).write_text("new")
        assert path.read_text() == "old\n"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "out.json"
    victim.write_text("precious")
    path.symlink_to(victim)
    with atomic_file(path) as file:
        file.write("new")
    assert victim.read_text() == "precious"
    assert path.read_text() == "new"
    assert not path.is_symlink()


def _put(kind: str, path: Path) -> None:
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        # Addresses of sockets are short.
        home = os.getcwd()
        os.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
        os.chdir(home)
    elif kind == "a folder":
        path.mkdir()
    else:
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 7))
        except OSError as error:
            pytest.skip(f"devices cannot be made here: {error}")


@pytest.mark.parametrize("kind", ["a named pipe", "a socket", "a folder", "a device"])
@pytest.mark.parametrize("context", [atomic_file, atomic_path])
def test_what_is_no_file_is_refused_before_anything_is_written(tmp_path, kind, context):
    path = tmp_path / "out"
    _put(kind, path)
    before = path.lstat()
    refused = pytest.raises(ValueError, match=f"out is {kind}: expected a regular file, or none")
    with refused, context(path):
        pytest.fail("it was opened")
    assert path.lstat() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("context", [atomic_file, atomic_path])
def test_a_link_in_the_place_of_the_partial_file_is_not_followed(tmp_path, monkeypatch, context):
    class Known:
        hex = "known"

    victim = tmp_path / "victim"
    monkeypatch.setattr(atomic_write.uuid, "uuid4", Known)
    for target in (victim, tmp_path / "gone"):
        victim.write_text("precious")
        (tmp_path / "out.known.partial").symlink_to(target)
        with pytest.raises(FileExistsError), context(tmp_path / "out"):
            pytest.fail("it was opened")
        assert victim.read_text() == "precious"
        assert not (tmp_path / "gone").exists()
        (tmp_path / "out.known.partial").unlink(missing_ok=True)


def test_what_killed_writers_left_is_removed(tmp_path):
    names = ["a.pth.0123.partial", "a.pth.partial", "b.pth.4567.partial", "[a].pth.8.partial"]
    for name in [*names, "a.pth", "c.txt.1.partial"]:
        (tmp_path / name).touch()
    remove_partial_files(tmp_path / "[a].pth")
    assert not (tmp_path / "[a].pth.8.partial").exists()
    assert (tmp_path / "a.pth.0123.partial").exists()
    remove_partial_files(tmp_path / "*.pth")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pth", "c.txt.1.partial"]


_FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from lt_det.storage.atomic_write import atomic_file, atomic_path
path, writer = sys.argv[1:]
if writer == "bytes":
    with atomic_file(path, "wb") as file:
        file.write(bytes(1_000_000))
elif writer == "torch":
    import torch
    with atomic_file(path, "wb") as file:
        torch.save({"a": torch.zeros(1000), "b": torch.zeros(250_000)}, file)
else:
    with atomic_path(path) as partial:
        open(partial, "wb").write(bytes(1_000_000))
"""


@pytest.mark.parametrize("writer", ["bytes", "torch", "path"])
def test_a_file_that_does_not_fit_is_named_with_the_free_space(tmp_path, writer):
    path = tmp_path / "big"
    path.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(path), writer],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert f"{path} could not be written" in last
    assert "free on its disk are" in last
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


FILL_AND_WRITE = """
from lt_det.storage.atomic_write import atomic_file
with atomic_file(place / "a", "wb") as file:
    file.write(b"old")
for content in (b"x" * 2**21, b"new"):
    try:
        with atomic_file(place / "a", "wb") as file:
            file.write(content)
    except OSError as error:
        print(error)
print([p.name for p in place.iterdir()], (place / "a").read_bytes())
"""


@pytest.mark.parametrize(
    ("options", "reason", "left"),
    [
        ("size=1m", "free on its disk are 0.0 MiB. What", "b'new'"),
        (
            "size=9m,nr_inodes=2",
            "free on its disk are [89].. MiB, but no entry for a new",
            "b'old'",
        ),
    ],
)
def test_a_small_disk_is_full(tmp_path, options, reason, left):
    lines = on_small_disk(tmp_path, options, FILL_AND_WRITE).splitlines()
    assert re.search(f"{tmp_path}/a could not be written .No space left.*{reason}", lines[0])
    assert lines[-1] == f"['a'] {left}"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), RuntimeError("PytorchStreamWriter failed")]
)
def test_writers_that_give_no_reason_are_believed_where_the_disk_is_full(
    tmp_path, monkeypatch, error
):
    class Usage:
        free = 4096

    monkeypatch.setattr(atomic_write.shutil, "disk_usage", lambda _: Usage)
    full = pytest.raises(OSError, match=r"a could not be written \(No space left.*are 0.0 MiB")
    with full as caught, atomic_file(tmp_path / "a"):
        raise error
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())
    Usage.free = 2**30
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError), atomic_file(tmp_path / "a"):
            raise error


def test_content_may_be_put_on_the_disk_before_its_name(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append("sync") or sync(fd))
    monkeypatch.setattr(os, "replace", lambda *a: calls.append("name") or replace(*a))
    with atomic_file(tmp_path / "a", sync=True):
        pass
    with atomic_file(tmp_path / "a"):
        pass
    assert calls == ["sync", "name", "name"]
