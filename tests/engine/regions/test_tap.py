"""Looking at the regions leaves the detector as it was."""

from __future__ import annotations

import pytest
import torch
from detectron2.utils.events import EventStorage

from lt_det.engine.regions.tap import RegionTap, frozen_regions
from lt_det.modeling.roi.roi_heads import box_predictors
from tests.modeling.small_models import HEADS, small_batch, small_config, small_model


def state_of(model) -> list:
    return [
        model.roi_heads.mask_on,
        [
            (p.region_weighting, p.loss_observer, len(p.cls_score._forward_pre_hooks))
            for p in box_predictors(model)
        ],
    ]


@pytest.mark.parametrize("kind", HEADS)
def test_frozen_forward_leaves_no_trace(kind):
    model = small_model(small_config(kind)).train()
    for predictor in box_predictors(model):
        predictor.region_weighting = torch.ones_like
    before = state_of(model)
    with EventStorage() as storage:
        stages = frozen_regions(model, small_batch())
        assert not storage.latest()
    assert state_of(model) == before
    assert before[0] is True
    assert len(stages) == len(before[1])
    for stage in stages:
        assert not stage.features.requires_grad
        assert len(stage.features) == len(stage.labels) == sum(stage.regions_per_image)
        assert len(stage.regions_per_image) == 2

    # Nor does one that fails.
    model.roi_heads._sample_proposals = None
    with pytest.raises(TypeError):
        frozen_regions(model, small_batch())
    assert state_of(model) == before


def test_frozen_forward_draws_no_pictures():
    """VIS_PERIOD asks for one every so many iterations, not for one of each meta batch."""
    model = small_model(small_config(VIS_PERIOD=20)).train()
    drawn = []
    model.visualize_training = lambda *_: drawn.append(1)
    for iteration in (7, 20):
        with EventStorage(iteration):
            frozen_regions(model, small_batch())
    assert not drawn
    with EventStorage(20):
        model(small_batch())
    assert drawn == [1]


def test_tap_sees_what_the_loss_is_made_of():
    model = small_model(small_config(LT_DET__LOSS="sigmoid_ce")).train()
    (predictor,) = box_predictors(model)
    with EventStorage(), RegionTap(model) as (stage,):
        losses = model(small_batch())
    rows = predictor.criterion.row_losses(predictor.cls_score(stage.features), stage.labels)
    torch.testing.assert_close(rows.sum() / len(rows), losses["loss_cls"])
    assert stage.logits.requires_grad
    assert predictor.loss_observer is None
