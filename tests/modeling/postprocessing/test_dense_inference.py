"""Detections of dense detectors are Detectron2's, bit for bit."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.structures import Boxes

from lt_det.modeling.dense.retinanet import LongTailRetinaNet
from lt_det.modeling.postprocessing import dense_inference
from lt_det.modeling.postprocessing.dense_inference import best_scores_above, list_contenders
from lt_det.modeling.postprocessing.exact_nms import Suppression
from tests.modeling.dense.test_retinanet import fcos
from tests.modeling.small_models import as_retinanet, small_batch, small_config, small_model

SIZE = (90, 120)


@pytest.fixture(autouse=True)
def _known_suppression(monkeypatch):
    """Not the probed one: where our code is wrong, the probe takes Detectron2's instead."""
    monkeypatch.setattr(dense_inference, "suppression_of", lambda _: Suppression(1000, stable=True))


def stock_best(scores, *, score_threshold, limit):
    above = scores > score_threshold
    listed = above.reshape(-1).nonzero()[:, 0]
    best, order = scores[above].topk(min(limit, len(listed)))
    return best, listed[order]


def matrix(rows, num_classes, *, levels=None, seed=0, order="random"):
    scores = torch.rand(rows * num_classes, generator=torch.Generator().manual_seed(seed))
    if levels is not None:
        scores = (scores * levels).round() / levels
    if order != "random":
        scores = scores.sort(descending=order == "falling")[0]
    return scores.view(rows, num_classes)


@pytest.mark.parametrize("levels", [None, 1000, 7, 1])
@pytest.mark.parametrize("order", ["random", "rising", "falling"])
@pytest.mark.parametrize("limit", [1, 3, 20, 100])
def test_best_scores_and_their_ties(levels, order, limit, monkeypatch):
    monkeypatch.setattr(dense_inference, "_PIECE", 300)
    for seed, (rows, num_classes) in enumerate([(1, 5), (640, 1), (130, 97), (2000, 11)]):
        scores = matrix(rows, num_classes, levels=levels, seed=seed, order=order)
        for threshold in (0.0, 0.3, 0.97, 1.0):
            expected = stock_best(scores, score_threshold=threshold, limit=limit)
            actual = best_scores_above(scores, score_threshold=threshold, limit=limit)
            for a, b in zip(actual, expected):
                assert a.dtype == b.dtype
                assert torch.equal(a, b)


def test_the_order_of_ties_is_not_the_order_of_positions():
    """Otherwise the test above would not need the heap."""
    scores = matrix(2000, 11, levels=7)
    best, positions = stock_best(scores, score_threshold=0.0, limit=100)
    assert len(best.unique()) == 1
    assert not torch.equal(positions, positions.sort()[0])


def test_few_are_listed(monkeypatch):
    monkeypatch.setattr(dense_inference, "_PIECE", 2048)
    listed = list_contenders(matrix(4000, 100), score_threshold=0.0, limit=20)
    assert 64 * 20 <= len(listed) < 6000


def test_unknown_ties_are_noticed():
    scores = torch.arange(1.0, 701.0)[torch.randperm(700)].view(70, 10)
    arguments = {"score_threshold": 0.0, "limit": 30, "ties_known": False}
    best = best_scores_above(scores, **arguments)
    assert torch.equal(best[0], torch.arange(700.0, 670.0, -1.0))
    for pair, tied in [((700.0, 699.0), True), ((671.0, 670.0), True), ((670.0, 669.0), False)]:
        some = torch.where(scores == pair[0], torch.tensor(pair[1]), scores)
        assert (best_scores_above(some, **arguments) is None) == tied


def test_what_is_known_of_ties_is_true(monkeypatch):
    """Without Detectron2's method, or with another order in it (as in v0.6): nothing."""
    assert dense_inference._knows_ties("cuda") is False
    stock = DenseDetector._decode_per_level_predictions
    dense_inference._knows_ties.cache_clear()
    monkeypatch.setattr(
        DenseDetector, "_decode_per_level_predictions", lambda *args: stock(*args)[torch.arange(9)]
    )
    assert dense_inference._knows_ties("cpu") is False
    dense_inference._knows_ties.cache_clear()


@pytest.mark.parametrize("known", [True, False])
def test_equal_scores_are_left_to_detectron2_where_nothing_is_known(known, monkeypatch):
    monkeypatch.setattr(dense_inference, "_knows_ties", lambda _: known)
    for levels in (None, 5):
        anchors = [Boxes(torch.rand(400, 4) + torch.tensor([0.0, 0, 5, 5]))]
        data = (anchors, [matrix(400, 9, levels=levels)], [torch.zeros(400, 4)], SIZE)
        arguments = {"box2box_transform": Box2BoxTransform((1.0, 1, 1, 1)), "limit": 20}
        arguments.update(score_threshold=0.1, topk_candidates=50, iou_threshold=0.5)
        found = dense_inference.dense_detections(*data, **arguments)
        assert (found is None) == (levels is not None and not known)


def test_scores_that_are_nan_are_no_candidates():
    scores = matrix(500, 9)
    scores[3:200:7] = float("nan")
    expected = stock_best(scores, score_threshold=0.1, limit=5)
    for a, b in zip(best_scores_above(scores, score_threshold=0.1, limit=5), expected):
        assert torch.equal(a, b)


def bare(cls, **attributes):
    model = cls.__new__(cls)
    torch.nn.Module.__init__(model)
    model.box2box_transform = Box2BoxTransform((1.0, 1, 1, 1))
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


@pytest.mark.parametrize("levels", [None, 500, 3])
@pytest.mark.parametrize("limit", [0, 1, 100, 5000, -1])
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.5, 1.0])
def test_levels_of_an_image(levels, limit, threshold, monkeypatch):
    monkeypatch.setattr(dense_inference, "_PIECE", 500)
    g = torch.Generator().manual_seed(1)
    anchors, scores, deltas = [], [], []
    for seed, rows in enumerate((300, 75, 20, 0)):
        corners = torch.rand(rows, 2, generator=g) * 90
        anchors.append(Boxes(torch.cat([corners, corners + 30], dim=1)))
        scores.append(matrix(rows, 40, levels=levels, seed=seed))
        deltas.append(torch.randn(rows, 4, generator=g) * 0.2)
    for topk in (1, 50, 1000):
        results = [
            bare(
                cls,
                test_score_thresh=threshold,
                test_topk_candidates=topk,
                test_nms_thresh=0.5,
                max_detections_per_image=limit,
            ).inference_single_image(anchors, scores, deltas, SIZE)
            for cls in (LongTailRetinaNet, RetinaNet)
        ]
        assert_same(*results)


def assert_same(ours, stock):
    assert ours.image_size == stock.image_size
    assert list(ours.get_fields()) == list(stock.get_fields())
    for name, value in stock.get_fields().items():
        value, other = (getattr(v, "tensor", v) for v in (value, ours.get(name)))
        assert value.dtype == other.dtype
        assert torch.equal(value, other), name


def test_models(monkeypatch):
    for build in (
        lambda: small_model(as_retinanet(small_config(), ours=True, loss="focal")),
        lambda: fcos(ours=True),
    ):
        outputs = []
        for fast in (True, False):
            model = build().eval()
            assert model.fast_inference  # the default
            model.fast_inference = fast
            model.test_score_thresh = 0.0
            with torch.no_grad(), monkeypatch.context() as patch:
                if not fast:
                    patch.setattr(dense_inference, "batched_nms_best", None)
                outputs.append([o["instances"] for o in model(small_batch())])
        for ours, stock in zip(*outputs):
            assert len(stock) > 5
            assert_same(ours, stock)


def test_the_config_key_switches_it():
    keys = {"LT_DET__FAST_INFERENCE": False}
    model = small_model(as_retinanet(small_config(**keys), ours=True, loss="focal"))
    assert not model.fast_inference
