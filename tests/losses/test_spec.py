"""What a row of the loss table says of a loss, whatever the loss is called."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import replace

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch.retinanet import RetinaNet

from lt_det.config import add_lt_det_config
from lt_det.data.warn_once import warn_once
from lt_det.engine.startup.config_checks import check_config
from lt_det.losses import LOSSES
from lt_det.losses.criterion import Criterion
from lt_det.modeling.build import build_criterion
from lt_det.modeling.classifiers.build_posthoc import (
    build_prior_corrections,
    warn_of_second_correction,
)
from lt_det.tasks import build_task


@pytest.fixture
def config(monkeypatch):
    """Return a function that makes a config with a loss of the table under another name."""

    def make(loss, **options):
        monkeypatch.setitem(LOSSES, "mine", replace(LOSSES[loss], source="mine"))
        cfg = get_cfg()
        add_lt_det_config(cfg)
        cfg.merge_from_list(["LT_DET.LOSS", "mine", "MODEL.DEVICE", "cpu"])
        cfg.merge_from_list(
            [part for k, v in options.items() for part in (k.replace("__", "."), v)]
        )
        return cfg

    return make


@pytest.mark.parametrize("name", LOSSES)
def test_training_steps_inspect_no_signature(name, monkeypatch):
    criterion = Criterion(name, class_counts=[9.0, 4.0, 1.0], num_images=9)
    monkeypatch.setattr(inspect, "signature", None)
    logits = torch.zeros(2, 3, requires_grad=True)
    criterion.row_losses(logits, torch.tensor([0, 2])).sum().backward()
    criterion.bind(torch.tensor([9.0, 4.0, 2.0]), 9)


def test_own_defaults_come_before_those_of_what_a_loss_hands_on_to():
    assert LOSSES["eureka"].hyperparameters()["bonus"] == "conservative"
    assert LOSSES["softmax_eureka"].hyperparameters()["bonus"] == "log"


def test_rows_can_be_copied_and_pickled():
    for spec in LOSSES.values():
        assert copy.deepcopy(spec) == spec == pickle.loads(pickle.dumps(spec))
    first = LOSSES["focal"].hyperparameters()
    first["gamma"] = 0.0  # of the caller
    assert LOSSES["focal"].hyperparameters()["gamma"] == 2.0
    with pytest.raises(ValueError, match="weighs_classes_by must be '' or one of .*'bata'"):
        replace(LOSSES["eureka"], weighs_classes_by="bata")


def test_a_bonus_weighed_twice_is_known_by_its_row(config, caplog):
    keys = {"LT_DET__CLASS_WEIGHTS__NAME": "effective_number"}
    build_criterion(config("softmax_eureka", **keys))
    assert "multiply the bonus of mine, which LT_DET.LOSS_PARAMS.MINE.BETA 0.9999" in caplog.text
    caplog.clear()
    build_criterion(config("softmax_eureka", **keys, LT_DET__LOSS_PARAMS__MINE__BETA=0.0))
    build_criterion(config("softmax_halted_focal", **keys))
    assert not caplog.records


@pytest.mark.parametrize(("loss", "twice"), [("balanced_softmax", True), ("softmax_ce", False)])
def test_a_prior_taken_out_twice_is_known_by_the_row(config, loss, twice, caplog):
    warn_once.cache_clear()
    warn_of_second_correction(build_prior_corrections(config(loss)))
    assert ("LT_DET.LOSS 'mine' takes out already" in caplog.text) == twice


def test_a_loss_for_cosine_classifiers_is_known_by_its_row(config, caplog):
    check_config(config("ldam", DATASETS__TRAIN=("x",)))
    assert "LT_DET.LOSS mine has margins for a cosine classifier" in caplog.text


def test_number_of_classes_of_a_retinanet_of_another_name(config, monkeypatch):
    class Dense(RetinaNet):
        pass

    class RetinaNetLikeHeads(torch.nn.Module):
        pass

    cfg = config("focal")
    for architecture, expected in ((Dense, 7), (RetinaNetLikeHeads, 9)):
        monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, architecture.__name__, architecture)
        cfg.MODEL.META_ARCHITECTURE = architecture.__name__
        cfg.MODEL.RETINANET.NUM_CLASSES, cfg.MODEL.ROI_HEADS.NUM_CLASSES = 7, 9
        assert build_task(cfg).num_classes() == expected
