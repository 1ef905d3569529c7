"""Our heads against Detectron2's: the same where the long-tail option is off."""

from __future__ import annotations

import pickle

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from lt_det.losses.criterion import Criterion
from lt_det.modeling.classifiers.decoupled import freeze_all_but_classifier
from lt_det.modeling.classifiers.layers import CosineClassifier
from lt_det.modeling.roi.box_predictor import (
    SigmoidOutputLayers,
    SoftmaxOutputLayers,
)
from lt_det.modeling.roi.roi_heads import box_predictors
from tests.engine.tiny import tiny_config
from tests.modeling.small_models import (
    HEADS,
    NUM_CLASSES,
    small_batch,
    small_config,
    small_model,
)

COUNTS = torch.tensor([90.0, 50.0, 20.0, 5.0, 2.0, 1.0], dtype=torch.float64)


def train_step(model):
    model.train()
    torch.manual_seed(11)
    with EventStorage() as storage:
        losses = model(small_batch())
        sum(losses.values()).backward()
        logged = {k: v for k, (v, _) in storage.latest().items()}
    return losses, logged


@pytest.mark.parametrize("kind", HEADS)
def test_defaults_equal_detectron2_to_the_last_bit(kind):
    stock = small_model(small_config(kind, ours=False))
    ours = small_model(small_config(kind))
    # The same seed gives the same parameters under the same names: checkpoints are exchangeable.
    expected, state = stock.state_dict(), ours.state_dict()
    assert list(state) == list(expected)
    for name, value in expected.items():
        assert torch.equal(state[name], value), name

    (loss, logged), (our_loss, our_logged) = train_step(stock), train_step(ours)
    assert our_loss.keys() == loss.keys()
    for name in loss:
        assert torch.equal(our_loss[name], loss[name]), name
    assert our_logged == logged
    for (name, p), q in zip(stock.named_parameters(), ours.parameters()):
        assert (p.grad is None) == (q.grad is None), name
        assert p.grad is None or torch.equal(p.grad, q.grad), name

    batch = small_batch()
    for model in (stock, ours):
        model.eval()
    with torch.no_grad():
        for a, b in zip(stock(batch), ours(batch)):
            assert len(a["instances"]) > 0
            for field in ("scores", "pred_classes", "pred_masks"):
                assert torch.equal(a["instances"].get(field), b["instances"].get(field)), field
            assert torch.equal(a["instances"].pred_boxes.tensor, b["instances"].pred_boxes.tensor)


@pytest.mark.parametrize("agnostic", [False, True])
def test_sigmoid_ce_equals_detectron2_s_sigmoid(agnostic):
    """Detectron2's has one column more, which its loss drops."""
    common = {
        "box2box_transform": Box2BoxTransform((10.0, 10.0, 5.0, 5.0)),
        "num_classes": NUM_CLASSES,
        "cls_agnostic_bbox_reg": agnostic,
    }
    try:
        stock = FastRCNNOutputLayers(ShapeSpec(channels=8), use_sigmoid_ce=True, **common)
    except TypeError:
        pytest.skip("this Detectron2 has no use_sigmoid_ce")
    ours = SigmoidOutputLayers(
        ShapeSpec(channels=8), criterion=Criterion("sigmoid_ce"), prior_prob=0.5, **common
    )
    ours.adopt(stock)
    features = torch.randn(20, 8)
    proposals = make_proposals()
    with EventStorage():
        expected = stock.losses(stock(features), proposals)
        losses = ours.losses(ours(features), proposals)
    for name in expected:
        torch.testing.assert_close(losses[name], expected[name])
    scores = ours.predict_probs(ours(features), proposals)
    stock_scores = stock.predict_probs(stock(features), proposals)
    assert [s.shape for s in scores] == [(12, NUM_CLASSES + 1), (8, NUM_CLASSES + 1)]
    for a, b in zip(scores, stock_scores):
        torch.testing.assert_close(a[:, :-1], b[:, :-1])
        assert not a[:, -1].any()


def make_proposals() -> list[Instances]:
    proposals = []
    for count in (12, 8):
        p = Instances((50, 50))
        corners = torch.rand(count, 2) * 20
        p.proposal_boxes = Boxes(torch.cat([corners, corners + 10], dim=1))
        p.gt_boxes = Boxes(torch.cat([corners + 1, corners + 12], dim=1))
        p.gt_classes = torch.arange(count) % (NUM_CLASSES + 1)
        proposals.append(p)
    return proposals


def make_predictor(loss: str, agnostic: bool = False, **options):
    cls = SoftmaxOutputLayers if "softmax" in loss else SigmoidOutputLayers
    counts = COUNTS if cls is SigmoidOutputLayers else torch.cat([COUNTS, COUNTS.mean()[None]])
    return cls(
        ShapeSpec(channels=8),
        box2box_transform=Box2BoxTransform((10.0, 10.0, 5.0, 5.0)),
        num_classes=NUM_CLASSES,
        cls_agnostic_bbox_reg=agnostic,
        criterion=Criterion(loss, class_counts=counts, num_images=100),
        **options,
    )


LOSSES = ["softmax_ce", "sigmoid_ce", "balanced_softmax", "balanced_sigmoid"]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("agnostic", [False, True])
def test_no_regions_give_zero_losses_with_gradients(loss, agnostic):
    predictor = make_predictor(loss, agnostic)
    with EventStorage():
        losses = predictor.losses(predictor(torch.randn(0, 8)), [])
        sum(losses.values()).backward()
    assert {k: v.item() for k, v in losses.items()} == {"loss_cls": 0.0, "loss_box_reg": 0.0}
    assert predictor.cls_score.weight.grad is not None
    assert predictor.bbox_pred.weight.grad is not None


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("agnostic", [False, True])
def test_last_class_learns_boxes(loss, agnostic):
    """The release takes column K - 1 for the background; there, the last class gets no box loss."""
    predictor = make_predictor(loss, agnostic)
    proposals = make_proposals()
    for p in proposals:
        p.gt_classes[:] = NUM_CLASSES - 1
    with EventStorage():
        losses = predictor.losses(predictor(torch.randn(20, 8)), proposals)
    assert losses["loss_box_reg"].item() > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_is_divided_by_all_regions(loss):
    predictor = make_predictor(loss)
    features, proposals = torch.randn(20, 8), make_proposals()
    with EventStorage():
        logits, deltas = predictor(features)
        losses = predictor.losses((logits, deltas), proposals)
    labels = torch.cat([p.gt_classes for p in proposals])
    rows = predictor.criterion.row_losses(logits, labels)
    torch.testing.assert_close(losses["loss_cls"], rows.sum() / 20)
    # Weights multiply from outside.
    predictor.region_weighting = lambda labels: (labels == 0).float() * 3
    loss_cls = predictor.classification_loss(logits, labels)
    torch.testing.assert_close(loss_cls, rows[labels == 0].sum() * 3 / 20)


def test_sigmoid_starts_from_the_prior():
    predictor = make_predictor("sigmoid_ce")
    assert predictor.cls_score.out_features == NUM_CLASSES
    torch.testing.assert_close(
        predictor.cls_score.bias.sigmoid(), torch.full((NUM_CLASSES,), 0.001)
    )
    for bad in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"LT_DET.PRIOR_PROB must be in \(0, 1\)"):
            make_predictor("sigmoid_ce", prior_prob=bad)


def test_wrong_kind_of_loss_is_refused():
    with pytest.raises(ValueError, match="needs a loss of kind 'softmax', got 'sigmoid_ce'"):
        SoftmaxOutputLayers(
            ShapeSpec(channels=8),
            box2box_transform=Box2BoxTransform((1.0, 1, 1, 1)),
            num_classes=2,
            criterion=Criterion("sigmoid_ce"),
        )


@pytest.mark.parametrize("key", ["USE_SIGMOID_CE", "USE_FED_LOSS"])
def test_detectron2_s_own_loss_switches_are_refused(key):
    cfg = small_config()
    if key not in cfg.MODEL.ROI_BOX_HEAD:
        pytest.skip(f"this Detectron2 has no {key}")
    cfg.MODEL.ROI_BOX_HEAD[key] = True
    with pytest.raises(ValueError, match=f"MODEL.ROI_BOX_HEAD.{key} .* LT_DET.LOSS does"):
        small_model(cfg)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("loss", ["balanced_softmax", "balanced_sigmoid"])
def test_every_head_trains_and_infers_with_every_kind(kind, loss):
    model = small_model(small_config(kind, LT_DET__LOSS=loss))
    stages = list(box_predictors(model))
    assert len(stages) == (3 if kind == "cascade" else 1)
    for predictor in stages:
        counts = COUNTS if predictor.kind == "sigmoid" else torch.cat([COUNTS, COUNTS[:1]])
        predictor.criterion.bind(counts, 100)
    losses, _ = train_step(model)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(p.cls_score.weight.grad.abs().sum() > 0 for p in stages)
    for empty in (small_batch(foreground=False), small_batch()):
        with EventStorage():
            assert all(torch.isfinite(v) for v in model(empty).values())
    model.eval()
    with torch.no_grad():
        result = model(small_batch())
    assert all(r["instances"].pred_classes.max() < NUM_CLASSES for r in result)
    assert all(r["instances"].scores.max() <= 1 for r in result)


def test_cosine_classifier_is_a_config_key():
    model = small_model(small_config(LT_DET__CLASSIFIER__NAME="cosine"))
    (predictor,) = box_predictors(model)
    assert isinstance(predictor.cls_score, CosineClassifier)
    features = torch.randn(4, predictor.cls_score.in_features)
    cosine = torch.nn.functional.cosine_similarity(
        features[:, None], predictor.cls_score.weight[None], dim=2
    )
    torch.testing.assert_close(predictor.cls_score(features), 20.0 * cosine)
    assert list(model.state_dict()) == list(small_model(small_config()).state_dict())
    with pytest.raises(ValueError, match="must be 'linear' or 'cosine', got 'angular'"):
        small_model(small_config(LT_DET__CLASSIFIER__NAME="angular"))


@pytest.mark.parametrize("loss", ["softmax_ce", "sigmoid_ce"])
def test_both_doors_to_a_predictor_read_the_same_keys(loss):
    """From the heads, and by the class itself."""
    cfg = small_config(LT_DET__LOSS=loss, LT_DET__CLASSIFIER__NAME="cosine")
    cfg.LT_DET.CLASSIFIER.SCALE, cfg.LT_DET.FAST_INFERENCE = 7.0, False
    cfg.LT_DET.FAST_BOX_REGRESSION = True
    cls = SoftmaxOutputLayers if loss == "softmax_ce" else SigmoidOutputLayers
    for predictor in (small_model(cfg).roi_heads.box_predictor, cls(cfg, ShapeSpec(channels=32))):
        assert type(predictor) is cls
        assert isinstance(predictor.cls_score, CosineClassifier)
        assert predictor.cls_score.scale == 7.0
        assert not predictor.fast_inference
        assert predictor.fast_box_regression


@pytest.mark.parametrize("loss", ["softmax_ce", "balanced_sigmoid"])
def test_weight_of_the_classification_loss(loss):
    predictor = small_model(small_config(LT_DET__LOSS=loss)).roi_heads.box_predictor
    criterion = predictor.criterion
    if loss == "balanced_sigmoid":
        criterion.bind(COUNTS.double(), 99)
    labels = torch.tensor([0, 3, NUM_CLASSES])
    logits = torch.randn(3, predictor.cls_score.out_features)
    plain = predictor.classification_loss(logits, labels)
    predictor.loss_weight = {"loss_cls": 0.25}
    torch.testing.assert_close(predictor.classification_loss(logits, labels), 0.25 * plain)
    predictor.region_weighting = lambda labels: torch.full(labels.shape, 2.0)
    torch.testing.assert_close(predictor.classification_loss(logits, labels), 0.5 * plain)


@pytest.mark.parametrize("keys", [{}, {"START_ITER": 2}, {"START_EPOCH": 0.5}], ids=str)
def test_a_model_can_be_pickled(tmp_path, keys):
    cfg = tiny_config(tmp_path, LT_DET__LOSS="balanced_softmax")
    if keys:
        cfg.LT_DET.DEFER.LOSS = "softmax_ce"
    cfg.merge_from_list([w for k, v in keys.items() for w in (f"LT_DET.DEFER.{k}", v)])
    model = small_model(cfg).train()
    copy = pickle.loads(pickle.dumps(model))
    losses = []
    for m in (model, copy):
        torch.manual_seed(0)
        with EventStorage(3):
            losses.append(m(small_batch()))
    assert all(torch.equal(value, losses[1][name]) for name, value in losses[0].items())


def test_decoupled_training_moves_the_classifier_only():
    model = small_model(small_config("cascade"))
    freeze_all_but_classifier(model)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        f"roi_heads.box_predictor.{i}.cls_score.{part}"
        for i in range(3)
        for part in ("weight", "bias")
    }
    with pytest.raises(ValueError, match="MODEL.ROI_HEADS.NAME"):
        freeze_all_but_classifier(small_model(small_config(ours=False)))


def timm_config():
    cfg = small_config(LT_DET__TIMM__NAME="tf_efficientnet_lite0")
    cfg.MODEL.BACKBONE.NAME = "build_lt_det_timm_fpn_backbone"
    return cfg


@pytest.mark.parametrize("backbone", ["resnet", "timm"])
def test_freezing_changes_no_detection_and_no_statistics(backbone):
    """timm's batch norm has its activation inside: it must not be lost."""
    cfg = timm_config() if backbone == "timm" else small_config(MODEL__RESNETS__NORM="BN")
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    model = small_model(cfg)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    images = model.preprocess_image(small_batch()).tensor
    with torch.no_grad():
        expected = model.eval().backbone(images)
        freeze_all_but_classifier(model)
        for mode in (False, True):
            features = model.train(mode).backbone(images)
            for name, value in expected.items():
                assert torch.equal(features[name], value), (name, mode)
    before = {name: value.clone() for name, value in model.named_buffers()}
    train_step(model)
    for name, value in model.named_buffers():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("loss", "layers"), [("softmax_ce", SoftmaxOutputLayers), ("sigmoid_ce", SigmoidOutputLayers)]
)
def test_a_predictor_from_a_config_is_that_of_the_heads(loss, layers):
    cfg = small_config("standard")
    cfg.LT_DET.LOSS, cfg.LT_DET.FAST_INFERENCE = loss, False
    cfg.LT_DET.CLASSIFIER.NAME, cfg.LT_DET.CLASSIFIER.SCALE = "cosine", 7.0
    cfg.LT_DET.POST_HOC.LOGIT_ADJUSTMENT = 0.5
    (of_heads,) = box_predictors(small_model(cfg))
    alone = layers(cfg, ShapeSpec(channels=of_heads.cls_score.in_features))
    assert repr(alone) == repr(of_heads)
    assert isinstance(alone.cls_score, CosineClassifier)
    assert (alone.cls_score.scale, alone.fast_inference) == (7.0, False)
    shapes = {name: value.shape for name, value in of_heads.state_dict().items()}
    assert {name: value.shape for name, value in alone.state_dict().items()} == shapes
    cfg.LT_DET.CLASSIFIER.NAME = "lws"
    with pytest.raises(ValueError, match="CLASSIFIER.NAME must be 'linear' or 'cosine', got 'lws'"):
        layers(cfg, ShapeSpec(channels=8))
