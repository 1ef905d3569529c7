"""Checkpoints are written whole, read without running their code, and fit Detectron2's."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer

from lt_det.engine.checkpoint import LongTailCheckpointer
from lt_det.engine.trainer import LongTailTrainer
from lt_det.engine.weights_fit import check_start
from lt_det.modeling.roi.roi_heads import box_predictors
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import HEADS, NUM_CLASSES, small_config, small_model


class RunsCode:
    """A pickle of this would run a command when it is loaded."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self):
        return os.system, (self._command,)


def no_keys_are_left_over(checkpointer) -> bool:
    bad = checkpointer.incompatible
    return not (bad.missing_keys or bad.unexpected_keys or bad.incorrect_shapes)


@pytest.mark.parametrize("kind", HEADS)
def test_checkpoints_of_detectron2_load_without_a_word_and_back(tmp_path, kind):
    stock = small_model(small_config(kind, ours=False), seed=1)
    DetectionCheckpointer(stock, str(tmp_path)).save("stock")
    ours = small_model(small_config(kind, LT_DET__LOSS="balanced_softmax"), seed=2)
    checkpointer = LongTailCheckpointer(ours, str(tmp_path))
    checkpointer.load(str(tmp_path / "stock.pth"))
    assert no_keys_are_left_over(checkpointer)
    for name, value in stock.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name

    checkpointer.save("ours")
    again = small_model(small_config(kind, ours=False), seed=3)
    DetectionCheckpointer(again).load(str(tmp_path / "ours.pth"))
    for name, value in stock.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("kind", ["standard", "cascade"])
@pytest.mark.parametrize("ours", [True, False])
def test_softmax_checkpoints_become_sigmoid_ones_with_a_report(tmp_path, kind, ours, caplog):
    """The weights come over, the prior stays: as when the head of such a model is replaced."""
    softmax = small_model(small_config(kind, ours=ours), seed=1)
    state = softmax.state_dict()
    for name, value in state.items():
        if name.endswith("cls_score.bias"):
            value.add_(2.0)  # a trained bias
    LongTailCheckpointer(softmax, str(tmp_path)).save("softmax")
    keys = {"LT_DET__LOSS": "balanced_sigmoid", "LT_DET__PRIOR_PROB": 0.01}
    sigmoid = small_model(small_config(kind, **keys), seed=2)
    checkpointer = LongTailCheckpointer(sigmoid, str(tmp_path))
    with caplog.at_level("INFO"):
        checkpointer.load(str(tmp_path / "softmax.pth"))
    assert no_keys_are_left_over(checkpointer)
    assert "cls_score: 7 rows of a softmax classifier became 6" in caplog.text
    heads = [name for name, module in sigmoid.named_modules() if name.endswith("cls_score")]
    predictors = list(box_predictors(sigmoid))
    assert len(heads) == len(predictors)
    for name, predictor in zip(heads, predictors):
        assert torch.equal(state[f"{name}.weight"][:NUM_CLASSES], predictor.cls_score.weight)
        prior = predictor.cls_score.bias.sigmoid()
        torch.testing.assert_close(prior, torch.full_like(prior, 0.01))


@pytest.mark.parametrize("loss", ["bags", "seesaw"])
def test_softmax_checkpoints_start_losses_with_more_columns(tmp_path, loss, caplog):
    """Rows of classes and of the background come over; the others keep their own start."""
    softmax = small_model(small_config("standard"), seed=1)
    LongTailCheckpointer(softmax, str(tmp_path)).save("softmax")
    (stage1,) = box_predictors(softmax)
    model = small_model(small_config("standard", LT_DET__LOSS=loss), seed=2)
    (head,) = box_predictors(model)
    with torch.no_grad():
        head.cls_score.bias.add_(1.0)
    before = {k: v.clone() for k, v in head.cls_score.state_dict().items()}
    checkpointer = LongTailCheckpointer(model, str(tmp_path))
    with caplog.at_level("INFO"):
        checkpointer.load(str(tmp_path / "softmax.pth"))
    check_start("softmax.pth", checkpointer, second_stage=True)
    rows = len(before["bias"])
    assert f"7 rows of a softmax classifier became {rows} of a {loss} one" in caplog.text
    for name, value in head.cls_score.state_dict().items():
        stock = stage1.cls_score.state_dict()[name]
        assert torch.equal(value[:NUM_CLASSES], stock[:NUM_CLASSES])
        assert torch.equal(value[-1], stock[-1])
        assert torch.equal(value[NUM_CLASSES:-1], before[name][NUM_CLASSES:-1])


@pytest.mark.parametrize("loss", ["eqlv2", "ecm", "acsl"])
def test_as_many_sigmoid_columns_as_of_a_softmax_are_loaded_as_they_are(tmp_path, loss, caplog):
    softmax = small_model(small_config("standard"), seed=1)
    (stage1,) = box_predictors(softmax)
    with torch.no_grad():
        stage1.cls_score.bias.add_(2.0)
    LongTailCheckpointer(softmax, str(tmp_path)).save("softmax")
    model = small_model(small_config("standard", LT_DET__LOSS=loss), seed=2)
    with caplog.at_level("INFO"):
        LongTailCheckpointer(model).load(str(tmp_path / "softmax.pth"), checkpointables=[])
    (head,) = box_predictors(model)
    assert "7 rows" not in caplog.text
    assert "K + 1 rows are taken as they are" in caplog.text
    for name, value in head.cls_score.state_dict().items():
        assert torch.equal(value, stage1.cls_score.state_dict()[name])


def test_model_zoo_pickles_of_arrays_load(tmp_path):
    model = small_model(small_config(), seed=1)
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    path = tmp_path / "zoo.pkl"
    path.write_bytes(pickle.dumps({"model": state, "__author__": "Detectron2 Model Zoo"}))
    other = small_model(small_config(), seed=2)
    checkpointer = LongTailCheckpointer(other)
    checkpointer.load(str(path))
    assert no_keys_are_left_over(checkpointer)
    assert all(np.array_equal(other.state_dict()[k].numpy(), v) for k, v in state.items())


@pytest.mark.parametrize("ending", ["pkl", "pth"])
def test_foreign_objects_are_refused_and_not_run(tmp_path, ending):
    trace, path = tmp_path / "trace", tmp_path / f"evil.{ending}"
    content = {"model": {}, "payload": RunsCode(f"touch {trace}")}
    if ending == "pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    model = small_model(small_config())
    with pytest.raises(ValueError, match="was not loaded.*Only tensors, arrays and plain"):
        LongTailCheckpointer(model).load(str(path))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (3, torch.zeros(2), "names a weight 3: expected texts as names"),
        ("w", torch.zeros(2, device="meta"), "has no values in 'w'"),
        ("w", torch.zeros(2, dtype=torch.complex64), "has complex numbers in 'w'"),
        ("w", torch.ones(2).to_sparse(), "has sparse numbers in 'w'"),
    ],
)
def test_what_is_no_weight_is_named(tmp_path, name, value, words):
    torch.save({"model": {name: value}}, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=words):
        LongTailCheckpointer(torch.nn.Linear(2, 2)).load(str(tmp_path / "odd.pth"))


def test_a_damaged_file_of_the_old_format_is_named(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"model": {"w": torch.zeros(9)}}, path, _use_new_zipfile_serialization=False)
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 3):
        damaged = content.copy()
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            LongTailCheckpointer(torch.nn.Linear(2, 2)).load(str(path))
        except ValueError as error:
            assert "old.pth" in str(error)  # noqa: PT017


def test_half_a_file_is_named(tmp_path):
    model = small_model(small_config())
    LongTailCheckpointer(model, str(tmp_path)).save("whole")
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"half.pth' was not loaded"):
        LongTailCheckpointer(model).load(str(tmp_path / "half.pth"))
    with pytest.raises(FileNotFoundError, match=r"none.pth' \(MODEL.WEIGHTS"):
        LongTailCheckpointer(model).load(str(tmp_path / "none.pth"))


def test_a_crash_while_writing_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    model = small_model(small_config())
    checkpointer = LongTailCheckpointer(model, str(tmp_path))
    checkpointer.save("last")
    before = (tmp_path / "last.pth").read_bytes()

    def crash(data, file):
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", crash)
    for name in ("last", "next"):
        with pytest.raises(OSError, match="disk full"):
            checkpointer.save(name)
    assert (tmp_path / "last.pth").read_bytes() == before
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "last.pth")
    assert not (tmp_path / "next.pth").exists()


def test_a_checkpoint_of_weights_only_is_not_resumed(tmp_path):
    cfg = tiny_config(tmp_path, SOLVER__MAX_ITER=1, DATASETS__TEST=())
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=True)  # an empty folder: a training begins
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    path = os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
    torch.save({"model": trainer.model.state_dict()}, path)
    with open(os.path.join(cfg.OUTPUT_DIR, "last_checkpoint"), "w") as file:
        file.write("model_final.pth")
    with pytest.raises(ValueError, match="holds weights only, no state of a training"):
        LongTailTrainer(cfg).resume_or_load(resume=True)
    cfg.MODEL.WEIGHTS = path
    LongTailTrainer(cfg).resume_or_load(resume=False)


def test_a_classifier_of_other_columns_is_not_resumed(tmp_path):
    """The optimizer's states are of the old ones: the first step would end in a traceback."""
    cfg = tiny_config(tmp_path, SOLVER__MAX_ITER=1, DATASETS__TEST=())
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    for loss in ("seesaw", "sigmoid_ce"):
        cfg.LT_DET.LOSS = loss
        words = r"cls_score.weight has the shape \(7, 32\), the model's \([68], 32\). Resume with"
        with pytest.raises(ValueError, match=words):
            LongTailTrainer(cfg).resume_or_load(resume=True)
