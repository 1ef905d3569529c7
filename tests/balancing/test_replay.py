"""Detections of cached regions are those of the detector, to the last bit."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from lt_det.balancing.frozen_images import FrozenImage, box_stages, frozen_image
from lt_det.balancing.replay import PostProcessing, Replay, differs
from lt_det.engine.regions.store import RegionShard, write_shard
from tests.modeling.small_models import HEADS, small_config, small_model


def built(kind, *, ours=True, loss="softmax_ce", **keys):
    cfg = small_config(kind, ours=ours, **keys)
    if ours:
        cfg.LT_DET.LOSS = loss
    model = small_model(cfg).eval()
    spread_out(model)
    return model


def spread_out(model):
    """Make the classes of a model that is not trained differ, so that many are detected."""
    torch.manual_seed(3)
    for stage in box_stages(model):
        with torch.no_grad():
            stage.cls_score.weight.normal_(std=0.5)
            stage.cls_score.bias.normal_(std=0.5)
            stage.bbox_pred.weight.normal_(std=0.05)


def sample(seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 255, (3, 64, 80), generator=generator, dtype=torch.uint8)
    return {"image": image, "height": 96, "width": 120}


def stored(frozen, tmp_path):
    stages = len(frozen.features)
    write_shard(
        str(tmp_path / "shard"),
        [frozen.record()],
        dtype=torch.float32,
        exact=range(stages, 2 * stages + 1),
    )
    return FrozenImage.of_record(RegionShard(str(tmp_path / "shard"))[0])


CASES = [
    *(
        (kind, True, loss, {})
        for kind, loss in itertools.product(HEADS, ("softmax_ce", "sigmoid_ce"))
    ),
    *((kind, False, "", {}) for kind in HEADS),
    ("standard", False, "", {"MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": True}),
    ("standard", True, "softmax_ce", {"MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True}),
]


@pytest.mark.parametrize(("kind", "ours", "loss", "keys"), CASES)
def test_replay_is_the_detector_to_the_last_bit(tmp_path, kind, ours, loss, keys):
    model = built(kind, ours=ours, loss=loss, **keys)
    expected = model([sample()])[0]["instances"]
    frozen, found = frozen_image(model, sample())
    assert not differs(found, expected)
    assert len(expected) > 10
    replay = Replay(model)
    detections = replay.image(stored(frozen, tmp_path))
    (again,) = detections(replay.own_classifiers(), [replay.own])
    assert not differs(again, expected)
    # Another classifier and other limits, as the detector with them.
    other = copy.deepcopy(model)
    spread_out(other)
    for stage in box_stages(other):
        stage.cls_score.weight.data *= 1.5
        stage.test_score_thresh, stage.test_nms_thresh = 0.03, 0.3
    (of_detector,) = other([sample()])
    assert differs(of_detector["instances"], expected)
    (of_replay,) = detections(Replay(other).own_classifiers(), [PostProcessing(0.03, 0.3)])
    assert not differs(of_replay, of_detector["instances"])


def test_the_detector_is_left_as_it_was():
    model = built("standard")
    before = model([sample()])[0]["instances"]
    frozen_image(model, sample())
    after = model([sample()])[0]["instances"]
    assert after.has("pred_masks")
    assert torch.equal(before.pred_masks, after.pred_masks)
    assert "inference" not in vars(model.roi_heads.box_predictor)


def test_what_cannot_be_replayed_is_named():
    model = built("standard")
    model.roi_heads.box_predictor.cls_score = torch.nn.Sequential(torch.nn.Linear(32, 7))
    with pytest.raises(ValueError, match="SoftmaxOutputLayers.*Sequential"):
        box_stages(model)
    with pytest.raises(ValueError, match="no ROI heads"):
        box_stages(torch.nn.Linear(1, 1))
