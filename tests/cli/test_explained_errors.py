"""Images that break and disks that fill while a run goes on end it with one line."""

from __future__ import annotations

import errno
import logging

import pytest
import torch
from detectron2.engine import TrainerBase

from lt_det.cli.commands import main
from lt_det.cli.user_errors import UserError, user_errors
from lt_det.data.images.unusable_image import MissingImageError, UnusableImageError
from lt_det.engine.startup.setup import load_config
from lt_det.storage.explained_error import DiskFullError
from tests.cli.test_commands import write_config
from tests.storage.small_disk import on_small_disk

FULL = "out/model_0000001.pth could not be written (No space left on device): make room"
TEXT = "image 3: a.jpg cannot be used (OSError: image file is truncated): save the image again"


class BrokenLater(TrainerBase):
    """A trainer in Detectron2's loop, which logs the traceback of what ends it."""

    error: Exception

    def __init__(self, cfg):
        super().__init__()
        self.cfg, self.start_iter, self.max_iter = cfg, 0, 2

    def resume_or_load(self, *, resume):
        pass

    def train(self):
        super().train(self.start_iter, self.max_iter)

    def run_step(self):
        raise self.error from OSError("what is behind it")


class Broken(torch.utils.data.Dataset):
    def __init__(self, kind):
        self.kind = kind

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.kind(TEXT) from OSError("image file is truncated")


def in_training(loader):
    try:
        next(iter(loader))
    except Exception as error:
        vars(error)["in_training"] = True
        raise


@pytest.mark.parametrize("kind", [UnusableImageError, MissingImageError, DiskFullError])
@pytest.mark.parametrize("workers", [0, 1])
def test_the_line_names_the_image_once(kind, workers):
    loader = torch.utils.data.DataLoader(Broken(kind), num_workers=workers)
    with pytest.raises(UserError) as caught, user_errors():
        in_training(loader)
    assert str(caught.value) == TEXT


@pytest.mark.parametrize(
    ("error", "text"),
    [(UnusableImageError(TEXT), TEXT), (DiskFullError(errno.ENOSPC, FULL), FULL)],
    ids=["image", "disk"],
)
def test_a_training_ends_with_one_line(tmp_path, monkeypatch, capsys, error, text):
    monkeypatch.setattr(BrokenLater, "error", error, raising=False)
    config = write_config(tmp_path, "config")
    folder = load_config(config).OUTPUT_DIR

    monkeypatch.setattr("lt_det.engine.run.LongTailTrainer", BrokenLater)
    # Its report of the machine takes long.
    monkeypatch.setattr("lt_det.engine.startup.setup.default_setup", lambda *_: None)
    assert main(["train", "--config-file", config]) == 1
    for handler in logging.getLogger("detectron2").handlers:
        handler.flush()
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert err.splitlines()[-1] == f"lt-det train: error: {text} (--debug shows the traceback)"
    with open(f"{folder}/log.txt", encoding="utf-8") as file:
        assert "Traceback" in file.read()  # for whoever wants it
    with pytest.raises(type(error)):
        main(["train", "--debug", "--config-file", config])


FILL = """
import contextlib
import io

from detectron2.engine import HookBase

from lt_det.cli.commands import main
from lt_det.engine.trainer import LongTailTrainer
from tests.engine.tiny import tiny_config


class Filler(HookBase):
    def after_step(self):
        if self.trainer.iter == 10:
            with (place / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * 4096)


keys = {"SOLVER__CHECKPOINT_PERIOD": period, "SOLVER__MAX_ITER": 45, "DATASETS__TEST": ()}
cfg = tiny_config(place / "set", **keys)
(place / "config.yaml").write_text(cfg.dump())
build_hooks = LongTailTrainer.build_hooks
LongTailTrainer.build_hooks = lambda self: [Filler(), *build_hooks(self)]
out, err = io.StringIO(), io.StringIO()
with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    status = main(["train", "--config-file", str(place / "config.yaml")])
print(status, "Traceback" in out.getvalue())
print(err.getvalue().splitlines()[-1])
print(sorted(path.name for path in (place / "set" / "out").glob("model*")))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("period", "file", "left"),
    [
        (1, "model_0000002.pth", "['model_0000000.pth', 'model_0000001.pth']"),
        (1000, "out", "[]"),  # what TensorBoard's writer says has no name
    ],
)
def test_a_real_disk_fills(tmp_path, period, file, left):
    """A checkpoint has 3.5 MB."""
    program = f"period = {period}\n{FILL}"
    status, line, found = on_small_disk(tmp_path, "size=9m", program).splitlines()
    assert status == "1 False"
    assert f"{file} could not be written (No space left on device): free on" in line
    assert found == left
