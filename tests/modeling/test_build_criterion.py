"""LT_DET.CLASS_WEIGHTS and LT_DET.DEFER, from config to loss."""

from __future__ import annotations

import pytest
import torch
from detectron2.utils.events import EventStorage

from lt_det.data.annotations.datasets import class_stats_of
from lt_det.losses.criterion import Criterion
from lt_det.losses.deferred import DeferredCriterion
from lt_det.modeling.build import build_criterion
from lt_det.modeling.roi.roi_heads import box_predictors
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import NUM_CLASSES, small_batch, small_config, small_model

CB = {"LT_DET__CLASS_WEIGHTS__NAME": "effective_number"}


@pytest.mark.parametrize("loss", ["softmax_ce", "sigmoid_ce"])
def test_weights_are_of_the_foreground_classes(tmp_path, loss):
    cfg = tiny_config(tmp_path, LT_DET__LOSS=loss, **CB, LT_DET__CLASS_WEIGHTS__BETA=0.9)
    criterion = build_criterion(cfg)
    columns = NUM_CLASSES + (loss == "softmax_ce")
    logits = torch.randn(2 * (NUM_CLASSES + 1), columns)
    labels = torch.arange(2 * (NUM_CLASSES + 1)) % (NUM_CLASSES + 1)
    ratio = criterion.row_losses(logits, labels) / Criterion(loss).row_losses(logits, labels)
    counts = torch.from_numpy(class_stats_of(cfg.DATASETS.TRAIN).counts())
    weights = (1 - 0.9) / (1 - 0.9**counts)
    weights = torch.cat([weights / weights.mean(), torch.ones(1)])[labels]
    torch.testing.assert_close(ratio, weights.float())


def test_defaults_are_one_plain_criterion():
    criterion = build_criterion(small_config())
    assert type(criterion) is Criterion
    assert criterion.class_weights is None


def test_deferral_reads_its_keys(tmp_path):
    cfg = tiny_config(tmp_path, **CB, LT_DET__LOSS="softmax_eureka", LT_DET__DEFER__START_ITER=5)
    criterion = build_criterion(cfg)
    assert isinstance(criterion, DeferredCriterion)
    assert (criterion.before.name, criterion.before.class_weights) == ("softmax_eureka", None)
    assert (criterion.after.name, criterion.start_iteration) == ("softmax_eureka", 5)
    assert criterion.after.class_weights.background
    cfg.LT_DET.DEFER.LOSS = "softmax_ce"
    assert build_criterion(cfg).before.name == "softmax_ce"
    assert build_criterion(cfg).current().name == "softmax_eureka"  # no trainer
    with EventStorage(4) as storage:
        assert build_criterion(cfg).current().name == "softmax_ce"
        storage.step()
        assert build_criterion(cfg).current().name == "softmax_eureka"


@pytest.mark.parametrize(("epoch", "iteration"), [(1.0, 4), (1.1, 5), (2.0, 8), (0.1, 1)])
def test_epochs_are_of_the_training_set(tmp_path, epoch, iteration):
    # 8 images, 2 a batch
    cfg = tiny_config(tmp_path, **CB, LT_DET__DEFER__START_EPOCH=epoch)
    assert build_criterion(cfg).start_iteration == iteration


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"START_ITER": 1, "START_EPOCH": 1.0}, "START_ITER and LT_DET.DEFER.START_EPOCH say the"),
        ({"START_ITER": -1}, "must be at least 0, got -1"),
        ({"LOSS": "softmax_ce"}, "nothing is deferred: set LT_DET.DEFER.START_ITER"),
        ({"START_ITER": 1}, "defers nothing: set LT_DET.CLASS_WEIGHTS.NAME"),
        ({"START_ITER": 1, "LOSS": "softmax_ce"}, "defers nothing"),
        ({"START_ITER": 1, "LOSS": "focal"}, "must be of one kind"),
    ],
)
def test_contradictions_are_named(keys, text):
    cfg = small_config(**{f"LT_DET__DEFER__{k}": v for k, v in keys.items()})
    with pytest.raises(ValueError, match=text):
        build_criterion(cfg)


def test_every_stage_of_a_cascade_switches(tmp_path):
    cfg = small_config("cascade", **CB, LT_DET__DEFER__START_ITER=1)
    model = small_model(cfg)
    predictors = list(box_predictors(model))
    plain = small_model(small_config("cascade"))
    for module in model.modules():
        if isinstance(module, Criterion):
            module.bind(torch.tensor([60.0, 50, 9, 4, 2, 1, 21]).double(), 60)
    assert model.state_dict().keys() == plain.state_dict().keys()
    losses = []
    for iteration, m in ((0, plain), (0, model), (1, model)):
        with EventStorage(iteration):
            torch.manual_seed(0)
            losses.append({k: v.item() for k, v in m(small_batch()).items()})
    assert len(predictors) == 3
    assert losses[0] == losses[1]
    for stage in range(3):
        assert losses[1][f"loss_cls_stage{stage}"] != losses[2][f"loss_cls_stage{stage}"]
        assert losses[1][f"loss_box_reg_stage{stage}"] == losses[2][f"loss_box_reg_stage{stage}"]


@pytest.mark.parametrize(
    ("key", "value"), [("DENOMINATOR", "weights"), ("BETA", 0.9), ("NORMALISATION", "nonsense")]
)
def test_keys_of_class_weights_without_their_name(tmp_path, key, value):
    cfg = tiny_config(tmp_path, **{f"LT_DET__CLASS_WEIGHTS__{key}": value})
    with pytest.raises(ValueError, match=rf"CLASS_WEIGHTS.{key} '?{value}'? would do nothing: set"):
        build_criterion(cfg)
