"""Files of torch.save whose tensors are said to be larger than the numbers that are there."""

from __future__ import annotations

import codecs
import io
import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch

from lt_det.storage.tensor_file import load_tensors


class _Storage:
    def __init__(self, numbers: object, key: str = "0", kind: type = torch.FloatStorage) -> None:
        self.pid = ("storage", kind, key, "cpu", numbers)


class _Pickler(pickle._Pickler):  # type: ignore[name-defined]
    def persistent_id(self, one):
        return one.pid if isinstance(one, _Storage) else None


class _Tensor:
    """A tensor of ``numbers`` that begins a storage, and items to set on it."""

    def __init__(self, storage: _Storage, numbers: int, items: list | None = None) -> None:
        arguments = (storage, 0, (numbers,), (1,), False, OrderedDict())
        self._reduced = (torch._utils._rebuild_tensor_v2, arguments)
        if items:
            self._reduced = (*self._reduced, None, None, iter(items))  # type: ignore[assignment]

    def __reduce__(self):
        return self._reduced


def written(path, tensor, held: int):
    pickled = io.BytesIO()
    _Pickler(pickled, 2).dump({"w": tensor})
    return with_pickle(path, pickled.getvalue(), held)


def with_pickle(path, pickled: bytes, held: int = 4):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/byteorder", b"little")
        archive.writestr("a/data/0", bytes(4 * held))
        archive.writestr("a/version", b"3\n")
    return path


def test_what_is_as_long_as_it_says_is_read(tmp_path):
    path = written(tmp_path / "w.pth", _Tensor(_Storage(4), 4), 4)
    assert load_tensors(path)["w"].tolist() == [0] * 4


# Some tens of numbers only: a reader that believes them must not end the test run.
@pytest.mark.parametrize("numbers", [5, 40])
def test_more_numbers_than_are_there_are_refused(tmp_path, numbers):
    path = written(tmp_path / "w.pth", _Tensor(_Storage(numbers), numbers), 4)
    with pytest.raises(pickle.UnpicklingError, match=f"have {4 * numbers} bytes, but 'data/0' "):
        load_tensors(path)


def test_other_types_count_their_own_bytes(tmp_path):
    path = written(tmp_path / "w.pth", _Tensor(_Storage(4, kind=torch.DoubleStorage), 4), 4)
    with pytest.raises(pickle.UnpicklingError, match="have 32 bytes, but 'data/0' has 16"):
        load_tensors(path)


def test_items_that_are_set_on_a_tensor_are_refused(tmp_path):
    path = written(tmp_path / "w.pth", _Tensor(_Storage(4), 4, [(0, 1.5)]), 4)
    with pytest.raises(pickle.UnpicklingError, match="an item in it is not described"):
        load_tensors(path)


@pytest.mark.parametrize("numbers", [-1, "4", None])
def test_lengths_that_are_none_are_refused(tmp_path, numbers):
    path = written(tmp_path / "w.pth", _Tensor(_Storage(numbers), 4), 4)
    with pytest.raises(pickle.UnpicklingError, match="not described as files of weights do"):
        load_tensors(path)


class _Call:
    def __init__(self, made: object, *arguments: object) -> None:
        self._reduced = (made, arguments)

    def __reduce__(self):
        return self._reduced


class _Filled(OrderedDict):
    """An OrderedDict in the pickle that says of itself what a type of storage does."""

    def __reduce__(self):
        return (OrderedDict, (), {"item_size": 4, "dtype": torch.float32})


@pytest.mark.parametrize(
    ("crafted", "words"),
    [
        (_Call(torch.FloatTensor, 8), "names torch.FloatTensor"),
        (_Tensor(_Storage(4, kind=_Filled()), 4), "not described as files of weights do"),
        (_Tensor(_Storage(4), 5), "reaches to byte 20 of 16"),
    ],
    ids=["memory without a storage", "a type that the file makes up", "beyond its storage"],
)
def test_memory_that_the_file_does_not_fill_is_refused(tmp_path, crafted, words):
    with pytest.raises(pickle.UnpicklingError, match=words):
        load_tensors(written(tmp_path / "w.pth", crafted, 4))


def _two(offset: object, size: object, stride: object, kind: type = torch.FloatStorage) -> _Call:
    storage = _Storage(16 // (1 if kind is torch.ByteStorage else 4), kind=kind)
    return _Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, None)


def _typed(*rest: object) -> _Call:
    storage = _Storage(16, kind=torch.ByteStorage)
    return _Call(torch._utils._rebuild_tensor_v3, storage, 0, (16,), (1,), *rest)


_BEYOND = (torch._utils._rebuild_tensor_v2, torch.Tensor, (_Storage(4), 0, (5,), (1,), False, None))
_WITH_TYPE = torch._tensor._rebuild_from_type_v2
_WHOLE = (_Storage(4), 0, (4,), (1,))
_REPEATED = _two(0, (1, 2), (0, 0))


@pytest.mark.parametrize(
    ("crafted", "words"),
    [
        (_Call(_WITH_TYPE, *_BEYOND, {}), "byte 20 of 16"),
        (_Call(_WITH_TYPE, _two, torch.Tensor, (), {}), "names tests"),
        (_typed(False, torch.int8, torch.float64), "byte 128 of 16"),
        (_typed(False, None, None), "a tensor in it is not"),
        (_two(0, (40,), ()), "a tensor"),
        (_two(0, (-1, -1, 4), (0, 0, 1)), "a tensor"),
        (_two(8, (2,), (-1,)), "a tensor"),
        (_two(0, (2**62,), (2**62,)), "byte"),
        (_two(0, (2**40,), (0,)), "repeats 16 bytes"),
        ([_two(0, (4,), (1,)), _two(0, (16,), (1,), torch.ByteStorage)], "lengths or types"),
        (_Tensor(_Storage(4, key="../data/0"), 4), "a storage"),
        (_Tensor(_Storage(4, key="0" * 21), 4), "a storage"),
        (_Tensor(_Storage(4000), 4), "more bytes than it has"),
        (_Call(torch._utils._rebuild_sparse_tensor, None, (_REPEATED, 1, (4,))), "a sparse tensor"),
        (_Call(torch._utils._rebuild_nested_tensor, 1), "names torch._utils._rebuild_nested"),
        (_Call(codecs.encode, b"a", "hex"), "a text"),
        (_Call(_WITH_TYPE, *_BEYOND[:2], _WHOLE, {"data": 1}), "a tensor"),
        (_Call(_WITH_TYPE, *_BEYOND[:2], _WHOLE, dict.fromkeys(map(str, range(65)))), "a tensor"),
    ],
)
def test_what_torch_save_does_not_write_is_refused(tmp_path, crafted, words):
    with pytest.raises(pickle.UnpicklingError, match=words):
        load_tensors(written(tmp_path / "w.pth", crafted, 4))


# A dictionary, to be copied many times.
_MANY = b"}q\0(" + b"".join(b"M%c%cN" % (n % 256, n // 256) for n in range(1000)) + b"u"


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (b"\x80\x05\x96" + (2**20).to_bytes(8, "little") + b".", "has the pickle code 150"),
        (b"\x80\x02ccollections\nCounter\n(N}X\1\0\0\0aK\1stb.", "a state"),
        (b"\x80\x02(" + b"ca\nb\n" * 9 + b"t.", "names a.b"),
        (b"\x80\x02}()" + b"\x85" * 5000 + b"K\1u.", "a key"),
        (b"\x80\x02](" + _MANY + b"ccollections\nOrderedDict\n(h\0tR" * 99 + b"e.", "copies"),
        (b"\x80\x02](" + _MANY + b"ccollections\nOrderedDict\n)Rh\0b" * 99 + b"e.", "copies"),
        (b"\x80\x02](" + _MANY + b"cbuiltins\nset\n(h\0tR" * 99 + b"e.", "copies"),
    ],
    ids=[
        "memory asked for",
        "a type changed",
        "names",
        "a deep key",
        "copies",
        "copied states",
        "copied keys",
    ],
)
def test_pickles_that_harm_the_reader_itself_are_refused(tmp_path, pickled, words):
    with pytest.raises(pickle.UnpicklingError, match=words):
        load_tensors(with_pickle(tmp_path / "w.pth", pickled))


def old_format(path, tensors: dict, keys: list[str], held: list[list[float]]):
    """Write a file of the format before torch 1.6."""
    with open(path, "wb") as file:
        for start in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(start, file, protocol=2)
        _Pickler(file, 2).dump(tensors)
        pickle.dump(keys, file, protocol=2)
        for numbers in held:
            file.write(len(numbers).to_bytes(8, "little") + torch.tensor(numbers).numpy().tobytes())
    return path


def old_tensor(numbers: int, *, of: int = 2, view: tuple | None = None) -> _Tensor:
    storage = _Storage(of)
    storage.pid = (*storage.pid, view)  # type: ignore[assignment]
    return _Tensor(storage, numbers)


def test_tensors_of_the_old_format_lie_within_their_storage(tmp_path):
    two = [[1.0, 2.0]]
    good = old_format(tmp_path / "a", {"w": old_tensor(2)}, ["0"], two)
    assert load_tensors(good)["w"].tolist() == [1, 2]
    beyond = old_format(tmp_path / "b", {"w": old_tensor(64)}, ["0"], two)
    with pytest.raises(pickle.UnpicklingError, match="reaches to byte 256 of 8"):
        load_tensors(beyond)
    lengths = {"v": old_tensor(2), "w": old_tensor(64, of=64)}
    with pytest.raises(pickle.UnpicklingError, match="gives the storage '0' two lengths or types"):
        load_tensors(old_format(tmp_path / "c", lengths, ["0"], two))
    view = {"w": old_tensor(2, view=("V", 0, 2))}
    with pytest.raises(pickle.UnpicklingError, match="not described as files of weights do"):
        load_tensors(old_format(tmp_path / "d", view, ["0", "V"], two))


def test_a_storage_without_numbers_in_the_old_format_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"w": torch.ones(8)}, path, _use_new_zipfile_serialization=False)
    assert load_tensors(path)["w"].tolist() == [1] * 8
    with open(path, "rb") as file:
        for _ in range(4):
            _Skip(file).load()
        head = path.read_bytes()[: file.tell()]
    path.write_bytes(head + pickle.dumps([], protocol=2))
    with pytest.raises(pickle.UnpicklingError, match="no numbers for the storage"):
        load_tensors(path)


class _Skip(pickle.Unpickler):
    def persistent_load(self, _):
        return None

    def find_class(self, *_):
        return lambda *_: None


def every_type() -> dict:
    return {
        **{
            str(dtype): torch.ones(3, dtype=dtype)
            for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8)
        },
        "flags": torch.tensor([True, False]),
        "complex": torch.ones(2, dtype=torch.complex64),
        "empty": torch.zeros(0),
        "view": torch.arange(9.0)[2:5],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "repeated": torch.ones(1, 1).expand(300, 300),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "empty of another type": torch.zeros(0).view(torch.int32),
    }


@pytest.mark.parametrize("as_archive", [True, False])
def test_every_type_is_read(tmp_path, as_archive):
    wanted = every_type()
    torch.save(wanted, tmp_path / "w.pth", _use_new_zipfile_serialization=as_archive)
    found = load_tensors(tmp_path / "w.pth")
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
