"""Detections of ROI heads are Detectron2's, bit for bit: boxes, scores, classes, regions, order."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference as stock_inference
from detectron2.structures import Boxes, Instances

from lt_det.data.warn_once import warn_once
from lt_det.losses.criterion import Criterion
from lt_det.modeling.postprocessing import exact_nms, fast_inference
from lt_det.modeling.postprocessing.exact_nms import Suppression
from lt_det.modeling.postprocessing.fast_inference import fast_rcnn_inference, predict_detections
from lt_det.modeling.roi.box_predictor import SigmoidOutputLayers, SoftmaxOutputLayers
from tests.modeling.small_models import HEADS, small_batch, small_config, small_model

SHAPE = (90, 120)
NO_COUNTS = {"softmax": "softmax_ce", "sigmoid": "sigmoid_ce"}


@pytest.fixture(autouse=True)
def _known_suppression(monkeypatch):
    """Not the probed one: where our code is wrong, the probe takes Detectron2's instead."""
    monkeypatch.setattr(fast_inference, "suppression_of", lambda _: Suppression(1000, stable=True))


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


def check(boxes, scores, *, threshold=1e-4, iou=0.5, limit=300):
    shapes = [SHAPE] * len(boxes)
    untouched = [t.clone() for t in (*boxes, *scores)]
    actual = fast_rcnn_inference(boxes, scores, shapes, threshold, iou, limit)
    assert_same(actual, stock_inference(boxes, scores, shapes, threshold, iou, limit))
    for before, after in zip(untouched, (*boxes, *scores)):
        assert torch.equal(before.nan_to_num(7e3), after.nan_to_num(7e3))


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("agnostic", [True, False])
@pytest.mark.parametrize("threshold", [0.0, 1e-4, 0.05, 0.5])
@pytest.mark.parametrize("limit", [-1, 0, 1, 50, 100_000])
def test_heads_thresholds_and_limits(head, agnostic, threshold, limit):
    for seed, (num, num_classes) in enumerate([(40, 3), (120, 30), (9, 1203), (1001, 1)]):
        data = image(num, num_classes, agnostic=agnostic, head=head, seed=seed)
        check([data[0]], [data[1]], threshold=threshold, limit=limit)


@pytest.mark.parametrize("agnostic", [True, False])
def test_the_full_vocabulary(agnostic):
    for head in ("softmax", "sigmoid"):
        boxes, scores = image(60, 1203, agnostic=agnostic, head=head)
        check([boxes], [scores])


@pytest.mark.parametrize("levels", [1, 4, 50])
@pytest.mark.parametrize("limit", [-1, 5, 100])
def test_ties(levels, limit):
    for seed in range(3):
        for head in ("softmax", "sigmoid"):
            for agnostic in (True, False):
                data = image(90, 25, agnostic=agnostic, head=head, levels=levels, seed=seed)
                check([data[0]], [data[1]], limit=limit)
    # All scores of all classes equal, as of a classifier that starts from zero.
    boxes, _ = image(90, 25, agnostic=True)
    check([boxes], [torch.full((90, 26), 1 / 26)], limit=limit)


def test_a_score_equal_to_the_threshold_is_no_candidate():
    boxes, _ = image(90, 25, agnostic=True)
    scores = (torch.rand(90, 26) * 4).round() / 4
    check([boxes], [scores], threshold=0.5, limit=-1)


def test_batches_with_empty_images():
    sizes = (30, 0, 150, 0)
    for agnostic in (True, False):
        data = [image(n, 20, agnostic=agnostic, seed=n) for n in sizes]
        check([b for b, _ in data], [s for _, s in data])
        check([b for b, _ in data], [s for _, s in data], threshold=2.0)  # nothing above it
    assert fast_rcnn_inference([], [], [], 0.1, 0.5, 10) == ([], [])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("agnostic", [True, False])
def test_rows_that_are_not_finite_are_dropped(value, agnostic):
    boxes, scores = image(80, 30, agnostic=agnostic)
    boxes[3, 1] = value
    boxes[7, -1] = value
    scores[11, 4] = value
    scores[13, -1] = value  # the background counts, too
    check([boxes], [scores])
    check([boxes, boxes.clone()], [scores, scores.clone()], limit=5)
    boxes[:, 0] = value
    check([boxes], [scores])


def test_values_whose_sum_overflows():
    boxes, scores = image(80, 30, agnostic=True)
    boxes[:5, 2:] = 3e38
    check([boxes], [scores])


@pytest.mark.parametrize("num", [999, 1000, 1001])
def test_sizes_around_the_change_of_algorithm(num):
    for seed in range(3):
        boxes, scores = image(num, 1, agnostic=True, seed=seed)
        check([boxes], [scores], threshold=0.0, limit=100)


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

    monkeypatch.setattr(exact_nms, "_FIRST_BLOCK", 128)
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
    assert_same(predictor.inference((logits, deltas), proposals), expected)


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
    for fast in (True, False):
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
    monkeypatch.setattr(fast_inference, "batched_nms_best", None)  # fails if called
    model = small_model(small_config(kind, LT_DET__FAST_INFERENCE=False)).eval()
    with torch.no_grad():
        model(small_batch())
    model = small_model(small_config(kind)).eval()
    with torch.no_grad(), pytest.raises(TypeError):
        model(small_batch())


def test_a_traced_model_gets_detectron2s_code(caplog, monkeypatch):
    warn_once.cache_clear()
    monkeypatch.setattr(fast_inference, "batched_nms_best", None)
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
