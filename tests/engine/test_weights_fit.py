"""Weights that are not the model's."""

from __future__ import annotations

import pytest
import torch

from lt_det.engine.trainer import LongTailTrainer
from lt_det.engine.weights_fit import format_of
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import small_config, small_model

TORCHVISION = ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "fc.weight")
MMDET = ("backbone.conv1.weight", "neck.fpn.weight", "roi_head.bbox_head.fc_cls.weight")


def save(folder, state, *, under="model"):
    path = str(folder / "weights.pth")
    torch.save({under: state} if under else state, path)
    return path


def evaluate(folder, path):
    return LongTailTrainer.evaluate_checkpoint(tiny_config(folder, MODEL__WEIGHTS=path))


def start(folder, path, **keys):
    trainer = LongTailTrainer(tiny_config(folder, MODEL__WEIGHTS=path, **keys))
    trainer.resume_or_load(resume=False)
    return trainer


@pytest.mark.parametrize("use", [evaluate, start])
@pytest.mark.parametrize(
    ("keys", "under", "found"),
    [
        (TORCHVISION, "", "torchvision"),
        (MMDET, "state_dict", "mmdetection"),
        (("a.b", "a.c", "a.d"), "model", ""),
    ],
)
def test_foreign_weights(tmp_path, use, keys, under, found):
    path = save(tmp_path, {key: torch.zeros(2) for key in keys}, under=under)
    with pytest.raises(ValueError, match="MODEL.WEIGHTS .*weights.pth' does not fit") as error:
        use(tmp_path, path)
    message = str(error.value)
    assert repr(keys[0]) in message
    assert (f"looks like {found}'s format" in message) == bool(found)
    if use is start:
        assert f"{len(keys)} of its {len(keys)} weights have no place" in message
    else:
        assert "weights of the model are not in it" in message
    assert "\n" not in message


def test_a_backbone_is_enough_to_start_from_and_not_to_evaluate(tmp_path):
    state = small_model(tiny_config(tmp_path)).state_dict()
    backbone = {k: v for k, v in state.items() if k.startswith("backbone.bottom_up.")}
    half = {k: v for k, v in state.items() if k.startswith("backbone.bottom_up.res")}
    path = save(tmp_path, {**backbone, "fc1000.weight": torch.zeros(3)})
    start(tmp_path, path)
    few = {k: half[k] for k in list(half)[:5]}
    with pytest.raises(ValueError, match="weights of the model are not in it"):
        evaluate(tmp_path, save(tmp_path, few))


def test_second_stage_names_both_numbers_of_classes(tmp_path):
    cfg = small_config(MODEL__ROI_HEADS__NUM_CLASSES=80, MODEL__RESNETS__NORM="BN")
    path = save(tmp_path, small_model(cfg).state_dict())
    with pytest.raises(ValueError, match="cls_score.* has 81 rows in the file and 7 in the model"):
        start(tmp_path, path, LT_DET__DECOUPLED=True)
    # A first stage may start from them.
    start(tmp_path, path)


def test_an_evaluation_refuses_classifiers_of_other_classes(tmp_path):
    cfg = small_config(MODEL__ROI_HEADS__NUM_CLASSES=80, MODEL__RESNETS__NORM="BN")
    path = save(tmp_path, small_model(cfg).state_dict())
    with pytest.raises(ValueError, match="would stay random.* 81 rows in the file and 7 in"):
        evaluate(tmp_path, path)


def test_second_stage_names_the_format(tmp_path):
    path = save(tmp_path, {key: torch.zeros(2) for key in TORCHVISION})
    with pytest.raises(ValueError, match="no.* stage-1 checkpoint .*looks like torchvision's"):
        start(tmp_path, path, LT_DET__DECOUPLED=True)


def test_formats():
    assert format_of(TORCHVISION) == "torchvision"
    assert format_of(MMDET) == "mmdetection"
    assert format_of(["conv1_w", "res2_0_branch1_w"]) == "Detectron (Caffe2)"
    assert format_of(small_model(small_config()).state_dict()) == ""
