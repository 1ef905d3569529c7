"""Arrays come back as they were; crafted pickles neither run code nor reach foreign memory."""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest
from torch import nn

from lt_det.data.array_unpickler import BROKEN_FILE, ArrayUnpickler
from lt_det.engine.checkpoint import LongTailCheckpointer

RNG = np.random.default_rng(0)
ARRAYS = {
    "rows": RNG.random((3, 4)).astype("f4"),
    "columns": np.asfortranarray(RNG.random((3, 4))),
    "swapped": RNG.random(5).astype(">f8"),
    "steps": np.arange(7, dtype="u2")[::2],
    "empty": np.zeros((0, 3)),
    "one": np.array(3.0),
    "bools": np.array([True, False]),
    "complex": np.ones(2, "c16"),
    "halves": np.full(3, 0.5, "f2"),
    "scalar": np.float32(2.5),
    "swapped scalar": np.arange(3, dtype=">i4")[1],
    "bool": np.bool_(True),
}


def load(content: bytes):
    return ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_back(protocol):
    shared = np.arange(3)
    content = {**ARRAYS, "bytes": b"\xff\x00", "nested": OrderedDict(a=[(shared,), shared])}
    found = load(pickle.dumps(content, protocol=protocol))
    for name, value in ARRAYS.items():
        assert np.array_equal(found[name], value), name
        assert found[name].dtype == pickle.loads(pickle.dumps(value, protocol=protocol)).dtype
        assert isinstance(found[name], (np.ndarray, np.generic))
    assert found["bytes"] == b"\xff\x00"
    assert found["nested"]["a"][0][0] is found["nested"]["a"][1]
    found["rows"][0] = 1  # may be written, as what numpy loads


def test_module_versions_of_a_state_dict_come_along():
    state = OrderedDict(weight=np.ones(2))
    state._metadata = OrderedDict(version=2)  # type: ignore[attr-defined]
    state.copy = "no method"  # type: ignore[method-assign,assignment]
    found = load(pickle.dumps(state))
    assert found._metadata == {"version": 2}
    assert callable(found.copy)


# A pickle by hand: names, calls and states in an order that numpy would never write.
def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def build(item: bytes, *state: bytes) -> bytes:
    return item + b"(" + b"".join(state) + b"tb"


def number(value: int) -> bytes:
    return b"I%d\n" % value


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def raw(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


NONE, TRUE, FALSE = b"N", b"\x88", b"\x89"
NDARRAY, DTYPE = name("numpy", "ndarray"), name("numpy", "dtype")
RECONSTRUCT = name("numpy.core.multiarray", "_reconstruct")
SCALAR = name("numpy.core.multiarray", "scalar")
FROMBUFFER = name("numpy.core.numeric", "_frombuffer")
ZERO_SHAPE = b"(" + number(0) + b"t"


def shape(*sizes: int) -> bytes:
    return b"(" + b"".join(map(number, sizes)) + b"t"


def dtype(code: str, *, kind: str = "|", fields: bytes = NONE, flags: int = 0) -> bytes:
    made = call(DTYPE, text(code), FALSE, TRUE)
    state = [number(3), text(kind), NONE, NONE, fields, number(8), number(8), number(flags)]
    return build(made, *state)


def array(of: bytes, content: bytes, *sizes: int) -> bytes:
    empty = call(RECONSTRUCT, NDARRAY, ZERO_SHAPE, raw(b"b"))
    return build(empty, number(1), shape(*sizes), of, FALSE, content)


ADDRESS = raw(struct.pack("<Q", 0x4141414141414141))
FLOAT8 = call(DTYPE, text("f8"), FALSE, TRUE)
CRAFTED = {
    "objects from bytes": call(SCALAR, dtype("O8"), ADDRESS),
    "state turns numbers into objects": call(
        SCALAR,
        build(call(DTYPE, text("V8"), FALSE, TRUE), *[number(3), text("|"), NONE] * 2),
        ADDRESS,
    ),
    "fields of objects": call(
        SCALAR,
        dtype("V8", fields=b"}" + text("a") + b"(" + dtype("O8") + number(0) + b"ts"),
        ADDRESS,
    ),
    "flags of objects": call(SCALAR, dtype("V8", flags=63), ADDRESS),
    "array of objects": array(dtype("O8"), ADDRESS, 1),
    "buffer of objects": call(FROMBUFFER, ADDRESS, dtype("O8"), shape(1), text("C")),
    "scalar of too few bytes": call(SCALAR, FLOAT8, raw(b"x")),
    "array of too few bytes": array(FLOAT8, ADDRESS, 1000),
    "array of overflowing shape": array(FLOAT8, ADDRESS, 2**61, 8),
    "array of negative shape": array(FLOAT8, ADDRESS, -1, -1),
    "state of an array twice": build(
        array(FLOAT8, ADDRESS, 1), number(1), shape(1), FLOAT8, FALSE, ADDRESS
    ),
    "array without a state": call(NDARRAY, shape(1000), text("O")),
    "array class of its own": call(RECONSTRUCT, DTYPE, ZERO_SHAPE, raw(b"b")),
    "large reconstruction": call(RECONSTRUCT, NDARRAY, shape(10**12), text("O")),
    "text for numpy to evaluate": call(DTYPE, text("O8,O8"), FALSE, TRUE),
    "dates": call(SCALAR, dtype("M8[ns]"), ADDRESS),
    "attributes of a function": RECONSTRUCT + b"N}" + text("_function") + SCALAR + b"s\x86b",
    "attributes of a class": NDARRAY + b"N}" + text("__setstate__") + SCALAR + b"s\x86b",
    "encoding of its own": call(name("_codecs", "encode"), text("ab"), text("zlib")),
    "many bytes": call(name("__builtin__", "bytes"), number(10**12)),
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_crafted_pickles_are_refused(kind):
    with pytest.raises(BROKEN_FILE):
        load(b"\x80\x03" + CRAFTED[kind] + b".")


def test_the_pickles_by_hand_are_pickles():
    """Else the refusals above would show nothing."""
    for content in (
        call(SCALAR, FLOAT8, ADDRESS),
        call(SCALAR, dtype("f8", kind="<"), ADDRESS),
        array(FLOAT8, ADDRESS, 1),
        call(FROMBUFFER, ADDRESS, FLOAT8, shape(1), text("C")),
    ):
        content = b"\x80\x03" + content + b"."
        assert load(content) == pickle.loads(content) == np.frombuffer(ADDRESS[5:], "f8")[0]


@pytest.mark.parametrize("kind", ["objects from bytes", "array of objects", "buffer of objects"])
def test_a_crafted_checkpoint_ends_in_a_message_and_not_in_a_crash(tmp_path, kind):
    path = tmp_path / "w.pkl"
    model = b"}" + text("model") + b"}" + text("w") + CRAFTED[kind] + b"ss" + text("__author__")
    path.write_bytes(b"\x80\x03" + model + text("x") + b"s.")
    with pytest.raises(ValueError, match="w.pkl' was not loaded .*array of 'O8', not of numbers"):
        LongTailCheckpointer(nn.Linear(2, 2)).load(str(path))
