"""Detections of dense detectors are Detectron2's, bit for bit, with equal scores in our order."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.structures import Boxes

from lt_det.modeling.dense.retinanet import LongTailRetinaNet
from lt_det.modeling.postprocessing import dense
from tests.modeling.dense.test_retinanet import fcos
from tests.modeling.postprocessing.reference import Waits, distinct
from tests.modeling.small_models import (
    LargestTensor,
    as_retinanet,
    small_batch,
    small_config,
    small_model,
)

SIZE = (90, 120)


def bare(cls, **attributes):
    model = cls.__new__(cls)
    torch.nn.Module.__init__(model)
    model.box2box_transform = Box2BoxTransform((1.0, 1, 1, 1))
    defaults = {"test_score_thresh": 0.05, "test_topk_candidates": 1000, "test_nms_thresh": 0.5}
    for name, value in {**defaults, "max_detections_per_image": 100, **attributes}.items():
        setattr(model, name, value)
    return model


def levels_of(*rows, num_classes=40, levels=None, device, seed=0):
    """Anchors, scores and deltas of feature levels with so many anchors."""
    generator = torch.Generator().manual_seed(seed)
    anchors, scores, deltas = [], [], []
    for num in rows:
        corners = torch.rand(num, 2, generator=generator) * 90
        anchors.append(Boxes(torch.cat([corners, corners + 30], dim=1).to(device)))
        values = torch.rand(num, num_classes, generator=generator)
        if levels is not None:
            values = (values * levels).round() / levels
        scores.append(values.to(device))
        deltas.append((torch.randn(num, 4, generator=generator) * 0.2).to(device))
    return anchors, scores, deltas


def detect(cls, data, **attributes):
    return bare(cls, fast_inference=True, **attributes).inference_single_image(*data, SIZE)


def assert_same(ours, stock):
    assert ours.image_size == stock.image_size
    assert list(ours.get_fields()) == list(stock.get_fields())
    for name, value in stock.get_fields().items():
        value, other = (getattr(v, "tensor", v) for v in (value, ours.get(name)))
        assert value.dtype == other.dtype
        assert torch.equal(value, other), name


def check(data, **attributes):
    """Compare with Detectron2 where no scores are equal, then given the same data as they are."""
    anchors, scores, deltas = data
    threshold = attributes.get("test_score_thresh", 0.05)
    ranked = distinct(torch.cat(scores), threshold).split([len(s) for s in scores])
    stock = detect(
        RetinaNet, (anchors, list(ranked), deltas), **{**attributes, "test_score_thresh": 0.0}
    )
    found = detect(LongTailRetinaNet, data, **attributes)
    assert torch.equal(found.pred_boxes.tensor, stock.pred_boxes.tensor)
    assert torch.equal(found.pred_classes, stock.pred_classes)
    values = torch.cat(scores).reshape(-1).sort(descending=True)[0]
    number = torch.cat(ranked).max().long()
    assert torch.equal(found.scores, values[number - stock.scores.long()])
    above = values[values > threshold]
    if len(above.unique()) == len(above):
        assert_same(found, detect(RetinaNet, data, **attributes))


@pytest.mark.parametrize("levels", [None, 500, 3])
@pytest.mark.parametrize("limit", [0, 1, 100, 5000])
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.5, 1.0])
def test_levels_of_an_image(levels, limit, threshold, device):
    data = levels_of(300, 75, 20, 0, levels=levels, device=device)
    for topk in (1, 50, 1000):
        check(
            data,
            test_score_thresh=threshold,
            test_topk_candidates=topk,
            max_detections_per_image=limit,
        )


@pytest.mark.parametrize("levels", [None, 5000])
def test_the_real_sizes(levels, device):
    check(levels_of(1300, 300, 70, num_classes=1203, levels=levels, device=device))


def test_a_negative_limit_is_the_end_of_a_slice_as_in_detectron2(device):
    data = levels_of(300, 75, device=device)
    results = [detect(c, data, max_detections_per_image=-5) for c in (LongTailRetinaNet, RetinaNet)]
    assert_same(*results)


def test_a_later_score_that_equals_the_last_of_a_level(device):
    """The last place is the first anchor's; the score that comes 7,000 scores later has none."""
    generator = torch.Generator().manual_seed(0)
    for topk in (10, 1000):
        scores = torch.rand(9000, generator=generator) * 0.5
        order = scores.argsort(descending=True)
        scores[100], scores[7100] = scores[order[topk - 1]], scores[order[topk - 1]]
        scores[order[topk - 1]] = 0.0
        corners = torch.rand(1500, 2, generator=generator) * 3000
        anchors = Boxes(torch.cat([corners, corners + 1], dim=1).to(device))
        data = ([anchors], [scores.view(1500, 6).to(device)], [torch.zeros(1500, 4, device=device)])
        options = {"test_topk_candidates": topk, "max_detections_per_image": 5000}
        check(data, **options)
        found = detect(LongTailRetinaNet, data, **options)
        rows = [(found.pred_boxes.tensor == box).all(dim=1) for box in anchors.tensor[[16, 1183]]]
        listed = [bool((r & (found.pred_classes == c)).any()) for r, c in zip(rows, (4, 2))]
        assert listed == [True, False]


def test_equal_scores_of_levels_come_in_the_order_of_levels(device):
    anchors, scores, deltas = levels_of(40, 30, num_classes=3, levels=2, device=device)
    found = detect(LongTailRetinaNet, (anchors, scores, deltas), test_nms_thresh=1.0)
    expected = torch.cat(scores).reshape(-1).sort(descending=True, stable=True)[1][: len(found)]
    assert torch.equal(found.pred_classes, expected % 3)


def test_scores_that_are_nan_are_no_candidates(device):
    data = levels_of(500, 90, num_classes=9, device=device)
    data[1][0][3:200:7] = float("nan")
    for topk in (5, 1000):
        results = [
            detect(c, data, test_topk_candidates=topk) for c in (LongTailRetinaNet, RetinaNet)
        ]
        assert len(results[0]) > 0
        assert_same(*results)


@pytest.mark.parametrize("levels", [None, 4000])
def test_how_often_a_gpu_is_waited_for_and_what_is_copied(levels, monkeypatch):
    data = levels_of(3000, 750, num_classes=1203, levels=levels, device="cpu")
    waits = Waits().watch(monkeypatch)
    with LargestTensor() as largest, waits:
        detect(LongTailRetinaNet, data, test_topk_candidates=600)
    assert waits.of == {"tolist": 1, "nms": 2}
    assert largest.elements < data[1][0].numel() / 4


@pytest.mark.parametrize("kind", ["retinanet", "fcos"])
def test_models(kind, monkeypatch):
    outputs = []
    for fast in (None, False):
        if kind == "fcos":
            model = fcos(ours=True).eval()
        else:
            model = small_model(as_retinanet(small_config(), ours=True, loss="focal")).eval()
        assert model.fast_inference is None  # the default
        model.fast_inference, model.test_score_thresh = fast, 0.0
        torch.manual_seed(1)
        torch.nn.init.normal_(model.head.cls_score.weight, std=0.1)  # else scores are equal
        with torch.no_grad(), monkeypatch.context() as patch:
            if fast is False:
                patch.setattr(dense, "best_survivors", None)  # fails if called
            outputs.append([o["instances"] for o in model(small_batch())])
    for ours, stock in zip(*outputs):
        assert len(stock) > 5
        assert torch.equal(ours.scores, stock.scores)
        values, counts = stock.scores.unique(return_counts=True)
        alone = torch.isin(stock.scores, values[counts == 1])
        assert alone.sum() > 5
        assert_same(ours[alone], stock[alone])


@pytest.mark.parametrize("fast", [True, False])
def test_the_config_key_switches_it(fast):
    keys = {"LT_DET__FAST_INFERENCE": fast}
    model = small_model(as_retinanet(small_config(**keys), ours=True, loss="focal"))
    assert model.fast_inference is fast
