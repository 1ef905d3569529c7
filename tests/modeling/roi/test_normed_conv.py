"""Normalised mask predictor: its formula, one mask a region, checkpoints, keys."""

from __future__ import annotations

import copy
import logging
import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.utils.events import EventStorage

from lt_det.modeling.roi.mask_head import LongTailMaskHead, region_logits
from lt_det.modeling.roi.normed_conv import NormedConv2d
from tests.modeling.roi.test_mask_head import CHANNELS, make_instances, train
from tests.modeling.small_models import small_config, small_model

NAME = "LT_DET__MASK_PREDICTOR__NAME"
WITH_MASKS = {"MODEL__MASK_ON": True, "MODEL__ROI_MASK_HEAD__NAME": "LongTailMaskHead"}


def make_head(num_classes: int = 6, **options: object) -> LongTailMaskHead:
    torch.manual_seed(0)
    shape = ShapeSpec(channels=CHANNELS, height=5, width=5)
    return LongTailMaskHead(shape, num_classes=num_classes, conv_dims=[8, 8], **options)


def test_is_the_cosine_of_each_pixel():
    layer = NormedConv2d(3, 4, scale=7.0).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    x[0, :, 1, 1] = 0.0  # a pixel without features
    found = layer(x)
    for r, k, i, j in ((0, 0, 0, 0), (1, 3, 2, 4), (0, 2, 1, 1)):
        pixel, weight = x[r, :, i, j].tolist(), layer.weight[k, :, 0, 0].tolist()
        dot = sum(a * b for a, b in zip(pixel, weight))
        lengths = [math.sqrt(sum(a * a for a in v)) + 1e-6 for v in (pixel, weight)]
        expected = 7.0 * dot / lengths[0] / lengths[1] + float(layer.bias[k])
        assert float(found[r, k, i, j]) == pytest.approx(expected, abs=1e-12)


def test_a_region_s_mask_is_that_of_its_class():
    layer = NormedConv2d(3, 5, learn_scale=True).double()
    features = torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    classes = torch.tensor([4, 0, 4, 2])
    whole = layer(features)[torch.arange(4), classes][:, None]
    part = region_logits(features, classes, predictor=layer)
    torch.testing.assert_close(part, whole)
    inputs = [features, *layer.parameters()]
    weights = torch.randn_like(whole)
    for one, two in zip(
        torch.autograd.grad((part * weights).sum(), inputs),
        torch.autograd.grad((whole * weights).sum(), inputs),
    ):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("learn_scale", [False, True])
def test_heads_train_and_predict_by_region(learn_scale, caplog):
    head = make_head(normed=True, learn_scale=learn_scale)
    assert ("predictor.scale" in head.state_dict()) == learn_scale
    features = torch.randn(3, CHANNELS, 5, 5)
    with caplog.at_level(logging.WARNING):
        loss, gradients, _ = train(head, features, make_instances([[4, 2], [5]], training=True))
        instances = make_instances([[4, 2], [5]], training=False)
        with torch.no_grad():
            found = head.eval()(features, copy.deepcopy(instances))
            logits = head.layers(features)
    assert not caplog.records  # the fast way
    assert torch.isfinite(loss)
    assert all(torch.isfinite(g).all() for g in gradients.values())
    expected = logits[torch.arange(3), [4, 2, 5]].sigmoid()[:, None]
    torch.testing.assert_close(torch.cat([i.pred_masks for i in found]), expected)


def test_dead_pixels_and_half_precision_are_finite():
    head = make_head(normed=True)
    features = torch.zeros(2, CHANNELS, 5, 5)
    instances = make_instances([[1, 3]], training=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss, gradients, _ = train(head, features, instances)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(g).all() for g in gradients.values())


def test_off_is_detectron2_s_layer_and_on_moves_nothing_else():
    heads = [make_head(), make_head(normed=True)]
    after = [torch.rand(1) for _ in heads]
    stock = MaskRCNNConvUpsampleHead(
        ShapeSpec(channels=CHANNELS, height=5, width=5), num_classes=6, conv_dims=[8, 8]
    )
    assert [type(m) for m in heads[0].modules()][1:] == [type(m) for m in stock.modules()][1:]
    assert heads[0].state_dict().keys() == heads[1].state_dict().keys() == stock.state_dict().keys()
    for name, value in heads[0].state_dict().items():
        if not name.startswith("predictor."):
            assert torch.equal(value, heads[1].state_dict()[name])
    torch.manual_seed(0)
    del after
    make_head()
    one = torch.rand(1)
    make_head(normed=True)
    assert torch.equal(one, torch.rand(1))


def test_a_config_makes_it_and_plain_weights_start_it():
    plain = small_model(small_config(**WITH_MASKS), seed=1)
    keys = {**WITH_MASKS, NAME: "normed", "LT_DET__MASK_PREDICTOR__LEARN_SCALE": True}
    model = small_model(small_config(**keys, LT_DET__MASK_PREDICTOR__SCALE=9.0), seed=2)
    predictor = model.roi_heads.mask_head.predictor
    assert isinstance(predictor, NormedConv2d)
    assert float(predictor.scale) == 9.0
    model.load_state_dict(plain.state_dict())
    assert torch.equal(predictor.weight, plain.roi_heads.mask_head.predictor.weight)
    assert float(predictor.scale) == 9.0
    with EventStorage():
        assert predictor.scale.requires_grad


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({NAME: "cosine"}, "LT_DET.MASK_PREDICTOR.NAME must be 'conv' or 'normed', got 'cosine'"),
        ({"LT_DET__MASK_PREDICTOR__SCALE": 9.0}, r"SCALE 9.0 would do nothing: set .* 'normed'"),
        ({"LT_DET__MASK_PREDICTOR__LEARN_SCALE": True}, "LEARN_SCALE True would do nothing"),
        ({NAME: "normed", "LT_DET__MASK_PREDICTOR__SCALE": 0.0}, "SCALE must be above 0"),
    ],
)
def test_keys_that_do_not_go_together_are_named(keys, text):
    with pytest.raises(ValueError, match=text):
        small_model(small_config(**WITH_MASKS, **keys))
