"""Archives in which readers would find different files, or more than is there."""

from __future__ import annotations

import pickle
import struct
import zipfile

import pytest
import torch

from lt_det.storage.stored_archive import files_in_archive


def packed(path, names: list[str], compression: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in names:
            archive.writestr(name, bytes(400))
    return path.read_bytes()


def refused(path, content: bytes, words: str) -> None:
    path.write_bytes(content)
    with open(path, "rb") as file, pytest.raises(pickle.UnpicklingError, match=words):
        files_in_archive(file)


@pytest.mark.parametrize("name", ["w.pth", "\u0432\u0435\u0441\u0430.pth"])
def test_files_of_torch_save_are_found_with_their_sizes(tmp_path, name):
    torch.save({"w": torch.ones(4)}, tmp_path / name)
    with open(tmp_path / name, "rb") as file:
        found = files_in_archive(file)
    assert found["data/0"].file_size == 16
    assert {"data.pkl", "version"} <= set(found)


def test_compressed_archives_are_refused(tmp_path):
    path = tmp_path / "w.pth"
    refused(path, packed(path, ["a/b"], zipfile.ZIP_DEFLATED), "compressed")


def test_names_that_torch_takes_for_each_other_are_refused(tmp_path):
    path = tmp_path / "w.pth"
    refused(path, packed(path, ["a/data/b", "a/data/B"]), "one of them twice")
    refused(path, packed(path, ["a/b", "a/\u0432"]), "of two kinds")


def test_files_that_lie_one_over_the_other_are_refused(tmp_path):
    path = tmp_path / "w.pth"
    content = packed(path, [f"a/{n}" for n in range(4)])
    for place in range(len(content)):
        if content.startswith(b"PK\1\2", place):  # each one as long as all
            sizes = struct.pack("<II", 1000, 1000)
            content = content[: place + 20] + sizes + content[place + 28 :]
    refused(path, content, "one over the other")


def with_long_end(content: bytes, *, points_to: int) -> bytes:
    """Give an archive the end of archives of more than 4 GB."""
    length, start = struct.unpack_from("<II", content, len(content) - 10)
    end = len(content) - 22
    long = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, length, start)
    pointer = struct.pack("<4sIQI", b"PK\6\7", 0, end + points_to, 1)
    return content[:end] + long + pointer + content[end:]


def test_a_second_table_of_contents_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    content = packed(path, ["a/b"])
    words = "table of contents is not at its end"
    refused(path, b"something before" + content, words)
    refused(path, with_long_end(content, points_to=-8), words)
    path.write_bytes(with_long_end(content, points_to=0))
    with open(path, "rb") as file:
        assert list(files_in_archive(file)) == ["b"]


def test_nothing_is_no_archive(tmp_path):
    path = tmp_path / "w.pth"
    refused(path, packed(path, []), "holds no file")
