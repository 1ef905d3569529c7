"""Pickles that ask for more than they have, or do more than weights need, end in a message."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest

from lt_det.data.array_unpickler import BROKEN_FILE, ArrayUnpickler
from lt_det.storage import bounded_unpickler
from tests.data.test_array_unpickler import ADDRESS, FLOAT8, array, call, name, raw, text

_MIB = 2**20
ORDERED = name("collections", "OrderedDict")


def load(content: bytes):
    return ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()


def peak(path) -> int:
    """Return the most bytes that are held at a time while a file is read, refused or not."""
    tracemalloc.start()
    try:
        with open(path, "rb") as file:
            ArrayUnpickler(file, encoding="latin1").load()
    except BROKEN_FILE:
        pass
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return most


@pytest.mark.parametrize(
    "content",
    [
        b"Nr" + struct.pack("<I", 4 * _MIB) + b".",
        b"T" + struct.pack("<i", 16 * _MIB) + b".",
        b"B" + struct.pack("<I", 16 * _MIB) + b".",
        b"\x8e" + struct.pack("<Q", 16 * _MIB) + b".",
        b"\x8d" + struct.pack("<Q", 16 * _MIB) + b".",
        b"\x96" + struct.pack("<Q", 16 * _MIB) + b".",
        b"\x95" + struct.pack("<Q", 16 * _MIB) + b".",
    ],
    ids=["memo", "text", "bytes", "long bytes", "long text", "bytearray", "frame"],
)
def test_a_few_bytes_take_no_memory(tmp_path, content):
    (tmp_path / "w.pkl").write_bytes(b"\x80\x05" + content)
    assert peak(tmp_path / "w.pkl") < _MIB


def doubled(times: int) -> bytes:
    """Return a tuple of one tuple twice, and so on ``times`` deep: 2**times to look at."""
    return b")" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(times))


@pytest.mark.parametrize(
    "key",
    [b")" + b"\x85" * 5000, doubled(20), b"(" + b"N" * 100 + b"t"],
    ids=["deep", "wide", "long"],
)
def test_keys_that_are_endless_to_look_at_are_refused(key):
    for target in (b"}" + key + b"Ns.", b"(" + key + b"Nd.", b"\x8f(" + key + b"\x90."):
        with pytest.raises(pickle.UnpicklingError, match="a key in it"):
            load(b"\x80\x04" + target)


def test_tuples_as_keys_are_found_again():
    assert load(pickle.dumps({("a", 1): 2}, protocol=2))["a", 1] == 2


CONTENT = raw(ADDRESS[5:] * 125) + b"q\1"  # 1000 bytes
EMPTY = call(
    name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), b"(K\0t", text("b")
)


@pytest.mark.parametrize(
    "copied",
    [
        EMPTY + b"(K\1M\x7d\0\x85" + FLOAT8 + b"\x89h\1tb",
        call(name("numpy.core.numeric", "_frombuffer"), b"h\1", FLOAT8, b"M\x7d\0\x85", text("C")),
    ],
    ids=["state", "buffer"],
)
def test_bytes_that_are_there_once_fill_no_row_of_arrays(copied):
    start = b"\x80\x03]" + CONTENT + b"a"
    found = load(start + copied + b"a.")
    assert found[1].shape == (125,)
    with pytest.raises(pickle.UnpicklingError, match="copies its parts"):
        load(start + (copied + b"a") * 100 + b".")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (array(FLOAT8, ADDRESS, 1) + b"K\0G" + bytes(8) + b"s.", "an item in it"),
        (array(FLOAT8, ADDRESS, 1) + b"(K\0G" + bytes(8) + b"u.", "an item in it"),
        (ORDERED + b")R" + b"Na.", "an item in it"),
        (b"}}b.", "a state in it"),
        (b"N)R.", "a call in it"),
        (ORDERED + b"]R.", "a call in it"),
        (ORDERED + b")\x81.", "pickle code 129"),
        (b"(icollections\nOrderedDict\n.", "pickle code 105"),
        (b"\x82\1.", "pickle code 130"),
        (b"c" + b"\x1b" * 999 + b"\nb\n.", r"it names (\\x1b){80}, which"),
    ],
)
def test_what_no_weights_need_is_refused(content, words):
    with pytest.raises(pickle.UnpicklingError, match=words):
        load(b"\x80\x03" + content)


def test_steps_are_counted(monkeypatch):
    many = pickle.dumps([1.5] * 100, protocol=2)
    assert len(load(many)) == 100
    monkeypatch.setattr(bounded_unpickler, "_MOST_READS", 100)
    with pytest.raises(pickle.UnpicklingError, match="more parts"):
        load(many)


def test_a_file_is_read_from_where_it_stands():
    file = io.BytesIO(b"before" + pickle.dumps(OrderedDict(a=np.ones(3)), protocol=2) + b"behind")
    file.seek(6)
    assert ArrayUnpickler(file, encoding="latin1").load()["a"].tolist() == [1, 1, 1]
    assert file.read() == b"behind"
