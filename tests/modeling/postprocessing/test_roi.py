"""Detections of ROI heads are Detectron2's, bit for bit, with equal scores in our order.

Boxes, scores, classes, regions and their order are compared.
"""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference as stock_inference
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_det.data.warn_once import warn_once
from lt_det.losses.criterion import Criterion
from lt_det.modeling.postprocessing import nms, roi
from lt_det.modeling.postprocessing.choice import is_ours_wanted
from lt_det.modeling.postprocessing.roi import fast_rcnn_inference, predict_detections
from lt_det.modeling.roi.box_predictor import SigmoidOutputLayers, SoftmaxOutputLayers
from tests.modeling.postprocessing.reference import Waits, distinct
from tests.modeling.small_models import (
    HEADS,
    LargestTensor,
    small_batch,
    small_config,
    small_model,
)

SHAPE = (90, 120)
NO_COUNTS = {"softmax": "softmax_ce", "sigmoid": "sigmoid_ce"}


def assert_same(actual, expected):
    """Both (Instances of each image, regions of each image)."""
    assert len(actual[0]) == len(expected[0])
    assert len(actual[1]) == len(expected[1])
    for ours, stock in zip(actual[0], expected[0]):
        assert ours.image_size == stock.image_size
        assert list(ours.get_fields()) == list(stock.get_fields())
        pairs = [(ours.pred_boxes.tensor, stock.pred_boxes.tensor)]
        pairs += [(ours.get(name), stock.get(name)) for name in ("scores", "pred_classes")]
        for a, b in pairs:
            assert a.dtype == b.dtype
            assert torch.equal(a, b)
    for a, b in zip(actual[1], expected[1]):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def image(num, num_classes, *, agnostic, head="softmax", levels=None, seed=0):
    """Boxes partly outside of the image, and scores ``(num, K + 1)``."""
    g = torch.Generator().manual_seed(seed)
    corners = torch.rand(num, 2, generator=g) * 130 - 10
    boxes = torch.cat([corners, corners + torch.rand(num, 2, generator=g) * 60], dim=1)
    if not agnostic:
        noise = torch.randn(num, num_classes, 4, generator=g)
        boxes = (boxes[:, None] + noise).reshape(num, 4 * num_classes)
    logits = torch.randn(num, num_classes + 1, generator=g) * 2
    if levels is not None:
        logits = (logits * levels).round() / levels
    if head == "softmax":
        return boxes, logits.softmax(dim=1)
    scores = logits.sigmoid()
    scores[:, -1] = 0
    return boxes, scores


def check(boxes, scores, *, threshold=1e-4, iou=0.5, limit=300, device="cpu"):
    """Compare with Detectron2 where no scores are equal, then given the same scores as they are."""
    boxes, scores = [b.to(device) for b in boxes], [s.to(device) for s in scores]
    shapes = [SHAPE] * len(boxes)
    untouched = [t.clone() for t in (*boxes, *scores)]
    found, regions = fast_rcnn_inference(boxes, scores, shapes, threshold, iou, limit)
    for before, after in zip(untouched, (*boxes, *scores)):
        assert torch.equal(before.nan_to_num(7e3), after.nan_to_num(7e3))
    finite = [b.isfinite().all(dim=1) & s.isfinite().all(dim=1) for b, s in zip(boxes, scores)]
    boxes = [b[f] for b, f in zip(boxes, finite)]
    scores = [s[f] for s, f in zip(scores, finite)]
    ranked = [distinct(s[:, :-1], threshold) for s in scores]
    ranked = [torch.cat([s, s.new_zeros(len(s), 1)], dim=1) for s in ranked]
    expected, kept = stock_inference(boxes, ranked, shapes, 0.0, iou, limit)
    for instances, rows, values in zip(expected, kept, scores):
        instances.scores = values[rows, instances.pred_classes]
    assert_same((found, regions), (expected, kept))
    if all(len(s[:, :-1].unique()) == s[:, :-1].numel() for s in scores):
        # Detectron2 has no choice.
        plain = stock_inference(boxes, scores, shapes, threshold, iou, limit)
        assert_same((found, regions), plain)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("agnostic", [True, False])
@pytest.mark.parametrize("threshold", [0.0, 1e-4, 0.05, 0.5])
@pytest.mark.parametrize("limit", [-1, 0, 1, 50, 100_000])
def test_heads_thresholds_and_limits(head, agnostic, threshold, limit, device):
    for seed, (num, num_classes) in enumerate([(40, 3), (90, 30), (9, 603), (1001, 1)]):
        data = image(num, num_classes, agnostic=agnostic, head=head, seed=seed)
        check([data[0]], [data[1]], threshold=threshold, limit=limit, device=device)


@pytest.mark.parametrize("agnostic", [True, False])
def test_the_full_vocabulary(agnostic, device):
    for head in ("softmax", "sigmoid"):
        for levels in (None, 300):
            boxes, scores = image(120, 1203, agnostic=agnostic, head=head, levels=levels)
            check([boxes], [scores], device=device)


@pytest.mark.parametrize("levels", [1, 4, 50])
@pytest.mark.parametrize("limit", [-1, 5, 100])
def test_ties(levels, limit, device):
    for seed in range(3):
        for head in ("softmax", "sigmoid"):
            for agnostic in (True, False):
                data = image(90, 25, agnostic=agnostic, head=head, levels=levels, seed=seed)
                check([data[0]], [data[1]], limit=limit, device=device)
    # All scores of all classes equal, as of a classifier that starts from zero.
    boxes, _ = image(90, 25, agnostic=True)
    check([boxes], [torch.full((90, 26), 1 / 26)], limit=limit, device=device)


@pytest.mark.parametrize("num", [30, 90])  # few candidates, many candidates
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_detectron2s_detections_where_the_order_of_equal_scores_changes_none(num, head, device):
    """Regions in another order give Detectron2 equal scores in another order."""
    settled = 0
    for seed in range(12):
        levels = (20, 200, 1000)[seed % 3]
        boxes, scores = image(num, 25, agnostic=seed % 2 == 0, head=head, levels=levels, seed=seed)
        boxes, scores = boxes.to(device), scores.to(device)
        outcomes = []
        for trial in range(6):
            generator = torch.Generator().manual_seed(trial)
            order = torch.randperm(num, generator=generator) if trial else torch.arange(num)
            order = order.to(device)
            arguments = ([boxes[order]], [scores[order]], [SHAPE], 1e-4, 0.5, 40)
            for function in (
                (stock_inference, fast_rcnn_inference) if not trial else (stock_inference,)
            ):
                (found,), (regions,) = function(*arguments)
                pairs = zip(order[regions].tolist(), found.pred_classes.tolist())
                outcomes.append((set(pairs), found.scores.tolist()))
        stock, ours = [outcomes[0], *outcomes[2:]], outcomes[1]
        if all(outcome == stock[0] for outcome in stock):
            settled += 1
            assert ours == stock[0]
        keys = [(-score, r, c) for score, r, c in _detections_of(boxes, scores)]
        assert keys == sorted(keys)
    assert settled > 2
    assert settled < 12 or head == "softmax"  # whose denominators make equal scores rare


def _detections_of(boxes, scores):
    (found,), (regions,) = fast_rcnn_inference([boxes], [scores], [SHAPE], 1e-4, 0.5, 40)
    return list(zip(found.scores.tolist(), regions.tolist(), found.pred_classes.tolist()))


@given(
    seed=st.integers(0, 10**6),
    num=st.integers(0, 150),
    num_classes=st.integers(1, 60),
    levels=st.sampled_from([None, 1, 7, 100, 1000]),
    limit=st.sampled_from([-1, 0, 1, 10, 300]),
    threshold=st.sampled_from([0.0, 1e-4, 0.05]),
    iou=st.sampled_from([0.0, 0.3, 0.5, 0.6, 1.0]),
    agnostic=st.booleans(),
    head=st.sampled_from(["softmax", "sigmoid"]),
)
@settings(max_examples=60, deadline=None)
def test_anything(seed, num, num_classes, levels, limit, threshold, iou, agnostic, head):
    boxes, scores = image(num, num_classes, agnostic=agnostic, head=head, levels=levels, seed=seed)
    check([boxes], [scores], threshold=threshold, iou=iou, limit=limit)


@pytest.mark.parametrize("agnostic", [True, False])
@pytest.mark.parametrize("levels", [None, 300])
def test_how_often_a_gpu_is_waited_for_and_what_is_copied(agnostic, levels, monkeypatch):
    boxes, scores = image(200, 1203, agnostic=agnostic, levels=levels)
    waits = Waits().watch(monkeypatch)
    with LargestTensor() as largest, waits:
        fast_rcnn_inference([boxes] * 2, [scores] * 2, [SHAPE] * 2, 1e-4, 0.5, 300)
    assert waits.of["nms"] >= 2
    assert waits.total() <= 3 * 2
    assert largest.elements < 1.1 * scores.numel()


@pytest.mark.parametrize("agnostic", [True, False])
def test_how_often_a_predictor_waits_for_a_gpu(agnostic, monkeypatch):
    predictor, proposals = predictor_of("softmax", agnostic=agnostic), proposals_of()
    predictions = [t.detach() for t in predictor(torch.randn(170, 16))]
    waits = Waits().watch(monkeypatch)
    with waits:
        predict_detections(predictor, predictions, proposals)
    assert waits.of["nms"] >= 2
    assert waits.total() <= 3 * len(proposals)


def test_on_a_gpu_only_if_it_is_asked_for():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [is_ours_wanted(setting, cpu) for setting in (None, True, False)] == [True, True, False]
    assert [is_ours_wanted(setting, cuda) for setting in (None, True, False)] == [
        False,
        True,
        False,
    ]


def test_a_score_equal_to_the_threshold_is_no_candidate(device):
    boxes, _ = image(90, 25, agnostic=True)
    scores = (torch.rand(90, 26) * 4).round() / 4
    check([boxes], [scores], threshold=0.5, limit=-1, device=device)


def test_batches_with_empty_images(device):
    sizes = (30, 0, 150, 0)
    for agnostic in (True, False):
        data = [image(n, 20, agnostic=agnostic, seed=n) for n in sizes]
        check([b for b, _ in data], [s for _, s in data], device=device)
        check([b for b, _ in data], [s for _, s in data], threshold=2.0)  # nothing above it
    assert fast_rcnn_inference([], [], [], 0.1, 0.5, 10) == ([], [])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("agnostic", [True, False])
def test_rows_that_are_not_finite_are_dropped(value, agnostic, device):
    boxes, scores = image(80, 30, agnostic=agnostic)
    boxes[3, 1] = value
    boxes[7, -1] = value
    scores[11, 4] = value
    scores[13, -1] = value  # the background counts, too
    check([boxes], [scores], device=device)
    check([boxes, boxes.clone()], [scores, scores.clone()], limit=5, device=device)
    boxes[:, 0] = value
    check([boxes], [scores], device=device)


def test_values_whose_sum_overflows():
    boxes, scores = image(80, 30, agnostic=True)
    boxes[:5, 2:] = 3e38
    check([boxes], [scores])


@pytest.mark.parametrize("num", [999, 1000, 1001])
def test_sizes_around_the_change_of_algorithm(num, device):
    for seed in range(3):
        boxes, scores = image(num, 1, agnostic=True, seed=seed)
        check([boxes], [scores], threshold=0.0, limit=100, device=device)


def by_score_region_and_class(result):
    """Return the detections with equal scores in our order."""
    detections, regions = [], []
    for found, region in zip(*result):
        order = (region * 10_000 + found.pred_classes).sort(stable=True)[1]
        order = order[found.scores[order].sort(descending=True, stable=True)[1]]
        detections.append(found[order])
        regions.append(region[order])
    return detections, regions


def predictor_of(kind, *, agnostic, num_classes=40, ours=True, **keys):
    common = {
        "box2box_transform": Box2BoxTransform((10.0, 10, 5, 5)),
        "num_classes": num_classes,
        "cls_agnostic_bbox_reg": agnostic,
        "test_score_thresh": 1e-4,
        "test_topk_per_image": 60,
        **keys,
    }
    shape = ShapeSpec(channels=16)
    if not ours:
        return FastRCNNOutputLayers(shape, **common)
    layers = {"softmax": SoftmaxOutputLayers, "sigmoid": SigmoidOutputLayers}[kind]
    predictor = layers(shape, criterion=Criterion(NO_COUNTS[kind]), **common)
    torch.nn.init.normal_(predictor.cls_score.weight, std=0.5)
    torch.nn.init.normal_(predictor.bbox_pred.weight, std=0.3)
    return predictor


def proposals_of(sizes=(100, 0, 70)):
    result = []
    for num in sizes:
        proposals = Instances(SHAPE)
        proposals.proposal_boxes = Boxes(image(num, 1, agnostic=True, seed=num)[0])
        result.append(proposals)
    return result


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("agnostic", [True, False])
def test_predictors(kind, agnostic):
    predictor, proposals = predictor_of(kind, agnostic=agnostic), proposals_of()
    with torch.no_grad():
        predictions = predictor(torch.randn(170, 16))
        actual = predictor.inference(predictions, proposals)
        predictor.fast_inference = False
        expected = predictor.inference(predictions, proposals)
    assert_same(actual, expected)
    assert [len(i) for i in actual[0]] == [60, 0, 60]


def test_class_specific_boxes_are_decoded_for_the_candidates_looked_at_only(monkeypatch):
    predictor, proposals = predictor_of("softmax", agnostic=False), proposals_of()
    predictions = [t.detach() for t in predictor(torch.randn(170, 16))]
    expected = FastRCNNOutputLayers.inference(predictor, predictions, proposals)
    decoded = []
    apply_deltas = Box2BoxTransform.apply_deltas

    def counting(self, deltas, boxes):
        decoded.append(deltas.numel() // 4)
        return apply_deltas(self, deltas, boxes)

    monkeypatch.setattr(nms, "_FIRST_ON_CPU", 128)
    monkeypatch.setattr(Box2BoxTransform, "apply_deltas", counting)
    assert_same(predict_detections(predictor, predictions, proposals), expected)
    assert 0 < sum(decoded) < 170 * 40 / 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("where", ["delta", "logit", "proposal"])
def test_predictions_that_are_not_finite(value, where):
    predictor, proposals = predictor_of("sigmoid", agnostic=False), proposals_of()
    logits, deltas = (t.detach() for t in predictor(torch.randn(170, 16)))
    if where == "proposal":
        proposals[0].proposal_boxes.tensor[3, 2] = value
    else:
        {"delta": deltas, "logit": logits}[where][4, 5:8] = value
    expected = FastRCNNOutputLayers.inference(predictor, (logits, deltas), proposals)
    actual = predictor.inference((logits, deltas), proposals)
    if where == "logit":  # scores of 1, all of one region
        actual, expected = by_score_region_and_class(actual), by_score_region_and_class(expected)
    assert_same(actual, expected)


def test_detectron2s_own_predictor():
    """Also its sigmoid kind, and one with another decoding of boxes."""

    class Shifted(FastRCNNOutputLayers):
        def predict_boxes(self, predictions, proposals):
            return tuple(b + 3 for b in super().predict_boxes(predictions, proposals))

    for sigmoid in (False, True):
        predictor = predictor_of("", agnostic=False, ours=False)
        predictor.use_sigmoid_ce = sigmoid
        predictions = [t.detach() * 30 for t in predictor(torch.randn(170, 16))]
        for cls in (FastRCNNOutputLayers, Shifted):
            predictor.__class__ = cls
            actual = predict_detections(predictor, predictions, proposals_of())
            assert_same(actual, predictor.inference(predictions, proposals_of()))


def test_no_proposals_at_all():
    predictor = predictor_of("softmax", agnostic=False)
    empty = predictor(torch.zeros(0, 16))
    assert predict_detections(predictor, empty, []) == ([], [])
    actual = predict_detections(predictor, empty, proposals_of((0,)))
    assert_same(actual, FastRCNNOutputLayers.inference(predictor, empty, proposals_of((0,))))


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("loss", ["softmax_ce", "sigmoid_ce"])
def test_models(kind, loss):
    """Standard, cascade and C4 heads; LT_DET.FAST_INFERENCE False is Detectron2's code."""
    keys = {"LT_DET__LOSS": loss, "MODEL__ROI_HEADS__NUM_CLASSES": 60}
    keys["MODEL__RPN__POST_NMS_TOPK_TEST"] = 64
    outputs = []
    for fast in (None, False):
        model = small_model(small_config(kind, LT_DET__FAST_INFERENCE=fast, **keys)).eval()
        with torch.no_grad():
            outputs.append([o["instances"] for o in model(small_batch())])
    for ours, stock in zip(*outputs):
        assert len(stock) > 50
        for name, value in stock.get_fields().items():
            other = ours.get(name)
            value, other = (getattr(v, "tensor", v) for v in (value, other))
            assert torch.equal(value, other), name


@pytest.mark.parametrize("kind", HEADS)
def test_the_switch_reaches_the_predictors(kind, monkeypatch):
    monkeypatch.setattr(roi, "best_survivors", None)  # fails if called
    model = small_model(small_config(kind, LT_DET__FAST_INFERENCE=False)).eval()
    with torch.no_grad():
        model(small_batch())
    model = small_model(small_config(kind)).eval()
    with torch.no_grad(), pytest.raises(TypeError):
        model(small_batch())


def test_a_traced_model_gets_detectron2s_code(caplog, monkeypatch):
    warn_once.cache_clear()
    monkeypatch.setattr(roi, "best_survivors", None)
    predictor, proposals = predictor_of("softmax", agnostic=False), proposals_of((100,))

    class Wrapped(torch.nn.Module):
        def forward(self, boxes, scores):
            found, regions = fast_rcnn_inference([boxes], [scores], [SHAPE], 1e-4, 0.5, 20)
            return found[0].pred_boxes.tensor, found[0].scores, regions[0]

    class WholeHead(torch.nn.Module):
        def forward(self, features):
            found, regions = predictor.inference(predictor(features), proposals)
            return found[0].pred_boxes.tensor, found[0].scores, regions[0]

    boxes, scores = image(30, 20, agnostic=False)
    predictor.requires_grad_(False)
    traced = torch.jit.trace(Wrapped(), (boxes, scores), check_trace=False)
    torch.jit.trace(WholeHead(), torch.randn(100, 16), check_trace=False)
    assert len([r for r in caplog.records if "Traced" in r.message]) == 1
    boxes, scores = image(45, 20, agnostic=False, seed=1)
    expected, regions = stock_inference([boxes], [scores], [SHAPE], 1e-4, 0.5, 20)
    for a, b in zip(
        traced(boxes, scores), (expected[0].pred_boxes.tensor, expected[0].scores, regions[0])
    ):
        torch.testing.assert_close(a, b)


def test_shapes_that_do_not_fit_fail_as_in_detectron2():
    boxes, scores = image(5, 4, agnostic=False)
    with pytest.raises(IndexError):
        fast_rcnn_inference([boxes[:, :8]], [scores], [SHAPE], 0.0, 0.5, 5)


def test_gradients_flow_into_scores_and_boxes_as_in_detectron2():
    grads = []
    for function in (stock_inference, fast_rcnn_inference):
        boxes, scores = (t.requires_grad_() for t in image(90, 30, agnostic=False))
        found = function([boxes], [scores], [SHAPE], 1e-4, 0.5, 20)[0][0]
        (found.scores.sum() + found.pred_boxes.tensor.square().sum()).backward()
        grads.append((boxes.grad, scores.grad))
    for a, b in zip(*grads):
        assert torch.equal(a, b)
