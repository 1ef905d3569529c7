"""Box deltas of the needed regions and classes only: the same loss as with all of them."""

from __future__ import annotations

import logging

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from lt_det.data.warn_once import warn_once
from lt_det.losses.criterion import Criterion
from lt_det.modeling.roi.box_predictor import SigmoidOutputLayers, SoftmaxOutputLayers
from lt_det.modeling.roi.box_regression import RegionDeltas
from lt_det.modeling.roi.classification_stats import log_classification_stats
from lt_det.modeling.roi.roi_heads import box_predictors
from tests.modeling.small_models import LargestTensor, small_batch, small_config, small_model

FEATURES = 8


def make_proposals(labels: list[list[int]], *, ground_truth: bool = True) -> list[Instances]:
    proposals = []
    for image in labels:
        p = Instances((50, 50))
        corners = torch.rand(len(image), 2) * 20
        p.proposal_boxes = Boxes(torch.cat([corners, corners + 10], dim=1))
        if ground_truth:
            p.gt_boxes = Boxes(torch.cat([corners + 1, corners + 14], dim=1))
        p.gt_classes = torch.tensor(image, dtype=torch.int64)
        proposals.append(p)
    return proposals


def make_predictors(num_classes: int, *, sigmoid: bool = False, **kwargs):
    """Detectron2's predictor, and ours without and with the fast path, of the same parameters."""
    common = {
        "box2box_transform": Box2BoxTransform((10.0, 10.0, 5.0, 5.0)),
        "num_classes": num_classes,
        "loss_weight": {"loss_box_reg": 2.0},
        **kwargs,
    }
    torch.manual_seed(1)
    shape = ShapeSpec(channels=FEATURES)
    stock = FastRCNNOutputLayers(shape, **common)
    torch.nn.init.normal_(stock.bbox_pred.weight, std=0.1)
    torch.nn.init.normal_(stock.bbox_pred.bias, std=0.1)
    torch.nn.init.normal_(stock.cls_score.weight)
    ours = []
    for fast in (False, True):
        cls = SigmoidOutputLayers if sigmoid else SoftmaxOutputLayers
        criterion = Criterion("sigmoid_ce" if sigmoid else "softmax_ce")
        predictor = cls(shape, criterion=criterion, fast_box_regression=fast, **common)
        predictor.adopt(stock)
        ours.append(predictor.train())
    return [stock.train(), *ours]


def train(predictor, features, proposals):
    features = features.clone().requires_grad_()
    with EventStorage() as storage:
        losses = predictor.losses(predictor(features), proposals)
        sum(losses.values()).backward()
        logged = {name: value for name, (value, _) in storage.latest().items()}
    gradients = {name: p.grad for name, p in predictor.named_parameters()}
    return losses, {**gradients, "features": features.grad}, logged


LABELS = {
    "one class": (1, [[0, 1, 0], [1]]),
    "mixed": (6, [[0, 6, 5, 5, 6, 2], [6, 3]]),
    "background": (6, [[6, 6], [6]]),
    "one class of many": (40, [[39, 39], [39, 40, 39]]),
    "lvis": (1203, [[0, 1202, 1203, 7], [7, 1203, 1202]]),
}


@pytest.mark.parametrize("case", LABELS)
@pytest.mark.parametrize("loss", ["smooth_l1", "giou"])
def test_losses_equal_detectron2(case, loss):
    num_classes, labels = LABELS[case]
    proposals = make_proposals(labels)
    features = torch.randn(sum(map(len, labels)), FEATURES)
    stock, plain, fast = make_predictors(num_classes, box_reg_loss_type=loss)
    expected = train(stock, features, proposals)
    for name, value in expected[0].items():
        assert torch.equal(train(plain, features, proposals)[0][name], value), name
    assert isinstance(fast(features)[1], RegionDeltas) == (num_classes > 1)
    losses, gradients, logged = train(fast, features, proposals)
    assert list(losses) == list(expected[0])
    torch.testing.assert_close(losses, expected[0], rtol=1e-5, atol=1e-7)
    # None for none: DDP waits for the gradient of every parameter.
    torch.testing.assert_close(gradients, expected[1], rtol=1e-5, atol=1e-7)
    assert logged == expected[2]
    assert len(logged) == (1 if case == "background" else 3)


@pytest.mark.parametrize("fast", [False, True])
def test_images_without_ground_truth(fast):
    stock, *ours = make_predictors(6)
    proposals = make_proposals([[6, 6, 6]], ground_truth=False) + make_proposals([[2, 6]])
    features = torch.randn(5, FEATURES)
    expected, losses = (train(p, features, proposals)[0] for p in (stock, ours[fast]))
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-7)
    losses, gradients, _ = train(ours[fast], features[:0], [])
    assert {name: loss.item() for name, loss in losses.items()} == dict.fromkeys(losses, 0.0)
    assert all(g is not None for g in gradients.values())


@pytest.mark.parametrize("training", [True, False])
def test_no_tensor_has_all_deltas(training):
    num_classes, labels = 400, [[0, 399, 400, 400] * 20]
    features = torch.randn(80, FEATURES)
    largest = []
    for predictor in make_predictors(num_classes, sigmoid=True)[1:]:
        predictor.train(training)
        with EventStorage(), LargestTensor() as mode:
            predictions = predictor(features)
            if training:
                sum(predictor.losses(predictions, make_proposals(labels)).values()).backward()
        largest.append(mode.elements)
    assert largest[0] == 80 * num_classes * 4
    # What is left is of the size of the classification logits (the targets have a background).
    assert largest[1] == (80 * (num_classes + 1) if training else largest[0])


@pytest.mark.parametrize("sigmoid", [False, True])
def test_statistics_equal_detectron2(sigmoid):
    """The column that a sigmoid head lacks is at score 1/2."""
    num_classes = 4
    logits = torch.randn(60, num_classes + 1)
    logits[:, -1] = 0.0 if sigmoid else logits[:, -1] + 0.5
    logits[:5] = 0.0  # ties
    logits[5:10, :-1] = -1.0
    for upper in (num_classes, num_classes - 1, 0):
        labels = torch.randint(0, upper + 1, (60,))
        stock, predictor, _ = make_predictors(num_classes, sigmoid=sigmoid)
        proposals = make_proposals([labels.tolist()])
        deltas = torch.zeros(60, 4 * num_classes)
        results = []
        for p, own in ((stock, logits), (predictor, logits[:, :-1] if sigmoid else logits)):
            with EventStorage() as storage:
                p.losses((own, deltas), proposals)
                results.append(storage.latest())
        assert results[0] == results[1]
        assert results[0]["fast_rcnn/cls_accuracy"][0] < 1


def test_statistics_are_read_at_once():
    predicted, labels = torch.tensor([1, 0, 2, 2, 1]), torch.tensor([1, 1, 2, 1, 2])
    with EventStorage() as storage, LargestTensor() as mode:
        log_classification_stats(predicted, labels, num_classes=2, prefix="p")
    assert {name: value for name, (value, _) in storage.latest().items()} == {
        "p/cls_accuracy": 2 / 5,
        "p/fg_cls_accuracy": 1 / 3,
        "p/false_negative": 1 / 3,
    }
    # Each of these waits for a GPU.
    assert not mode.operations & {"nonzero", "_local_scalar_dense", "index", "masked_select"}


@pytest.mark.parametrize("kind", ["standard", "cascade", "res5"])
@pytest.mark.parametrize("on_predicted_boxes", [False, True])
def test_whole_detectors_agree(kind, on_predicted_boxes):
    if on_predicted_boxes and kind == "res5":
        pytest.skip("Res5ROIHeads has no TRAIN_ON_PRED_BOXES")
    results = []
    for fast in (False, True):
        cfg = small_config(
            kind,
            LT_DET__FAST_BOX_REGRESSION=fast,
            MODEL__ROI_BOX_HEAD__TRAIN_ON_PRED_BOXES=on_predicted_boxes,
        )
        model = small_model(cfg).train()
        assert all(p.fast_box_regression is fast for p in box_predictors(model))
        torch.manual_seed(11)
        with EventStorage() as storage:
            losses = model(small_batch())
            sum(losses.values()).backward()
            logged = storage.latest()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        with torch.no_grad():
            scores = [r["instances"].scores for r in model.eval()(small_batch())]
        results.append((losses, gradients, scores, logged))
    # Class-agnostic deltas stay as they are.
    close = {"rtol": 0, "atol": 0} if kind == "cascade" else {"rtol": 1e-5, "atol": 1e-6}
    assert results[1][0]["loss_cls" if kind != "cascade" else "loss_cls_stage0"] > 0
    torch.testing.assert_close(results[1][:2], results[0][:2], **close)
    torch.testing.assert_close(results[1][2], results[0][2], rtol=0, atol=0)
    assert results[1][3] == results[0][3]


def with_weight_norm(predictor):
    torch.nn.utils.weight_norm(predictor.bbox_pred)


def with_another_layer(predictor):
    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    layer = Doubled(FEATURES, predictor.bbox_pred.out_features)
    layer.load_state_dict(predictor.bbox_pred.state_dict())
    predictor.bbox_pred = layer


@pytest.mark.parametrize("change", [with_weight_norm, with_another_layer])
def test_another_layer_is_called_as_it_is(change, caplog):
    _, plain, fast = make_predictors(6)
    for predictor in (plain, fast):
        change(predictor)
    features, proposals = torch.randn(4, FEATURES), make_proposals([[0, 6, 5, 5]])
    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        expected = train(plain, features, proposals)
        for _ in range(2):
            fast.zero_grad()
            result = train(fast, features, proposals)
    torch.testing.assert_close(result, expected, rtol=0, atol=0)
    (record,) = caplog.records
    assert "FAST_BOX_REGRESSION computes the deltas of all classes: " in record.message
